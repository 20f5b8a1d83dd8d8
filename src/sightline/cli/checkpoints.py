"""Commands that turn one kind of checkpoint into another: `import`, `export`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.common import JsonFlag, say


def import_(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A LLaVA checkpoint, projector, LoRA folder or delta.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="Directory to write.")],
    base: Annotated[str | None, typer.Option(help="The language model of a projector, LoRA folder or delta.")] = None,
    vision: Annotated[str | None, typer.Option(help="The vision tower, where SRC only names it.")] = None,
    template: Annotated[str | None, typer.Option(help="The chat template, where it is told wrongly.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Convert a checkpoint of the original LLaVA, or of transformers, to one of ours: every tensor accounted for."""
    from sightline.exchange.import_checkpoint import import_checkpoint

    report = import_checkpoint(source, target, base=base, vision=vision, template=template, say=say)
    print(json.dumps(asdict(report)) if as_json else "\n".join(report.lines()))


def export(
    checkpoint: Annotated[Path, typer.Argument(help="Directory of a trained run, or of an imported checkpoint.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="Directory to write; must not be there, or be empty.")],
    format_name: Annotated[str, typer.Option("--format", help="hf, llava, projector, gguf or mlx.")],
    dtype: Annotated[
        str | None, typer.Option(help="fp32, fp16 or bf16; the checkpoint's own if not given (gguf: fp16).")
    ] = None,
    lora: Annotated[bool, typer.Option("--lora", help="llava: the run's adapter instead of the merged model.")] = False,
    vision_tower: Annotated[
        str | None, typer.Option(help="llava: name the tower by this instead of writing it beside the model.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a checkpoint for other software, read it back, and compare its logits before it gets its name."""
    from sightline.exchange.export import export as export_checkpoint

    done = export_checkpoint(checkpoint, target, format_name=format_name, dtype=dtype, lora=lora, tower=vision_tower)
    print(json.dumps(done.to_json()) if as_json else "\n".join(done.lines()))
