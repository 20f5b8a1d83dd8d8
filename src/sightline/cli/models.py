"""Commands that put a trained model to work: `chat`, `loss`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.common import ImageRootOption, JsonFlag, QuantizeOption, TemplateOption, checked_root, say
from sightline.errors import SightlineError


def chat(
    checkpoint: Annotated[Path, typer.Argument(help="Directory of a trained run.")],
    image: Annotated[list[Path] | None, typer.Option(help="A picture; may be given several times.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Ask this and leave. Without it: a conversation.")] = None,
    system: Annotated[str | None, typer.Option(help="The system text, instead of the template's.")] = None,
    temperature: Annotated[float, typer.Option(help="0: the likeliest answer.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest tokens up to this probability.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Draw from this many likeliest tokens; 0: all.")] = 0,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 256,
    seed: Annotated[int | None, typer.Option(help="Makes drawn answers repeatable.")] = None,
    quantize: QuantizeOption = None,
    explain: Annotated[
        Path | None, typer.Option(help="With --prompt: draw where the model looked for its answer into this PNG.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask about pictures: one answer, or a conversation in the terminal."""
    if as_json and prompt is None:
        raise SightlineError("--json needs --prompt: it prints one answer")
    if explain is not None:
        _check_explain(explain, image, prompt)
    from sightline.data.image import open_image
    from sightline.infer.chat import ChatSession, choose_device, choose_dtype
    from sightline.infer.load import load
    from sightline.infer.sampling import Sampling
    from sightline.infer.terminal import converse

    sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, max_new_tokens=max_new_tokens, seed=seed)
    pictures = [open_image(path) for path in image or []]
    device = choose_device()
    model, processor = load(checkpoint, device=device, dtype=choose_dtype(device), quantize=quantize)
    session = ChatSession(model=model, processor=processor, sampling=sampling, system=system)
    if prompt is None:
        converse(session, pictures, out=sys.stdout)
    elif as_json:
        session.ask(prompt, pictures)
        assert session.last is not None
        print(json.dumps(asdict(session.last)))
    else:
        for piece in session.stream(prompt, pictures):
            print(piece, end="", flush=True)
        print()
    if explain is not None:
        from sightline.infer.heat_picture import explain_last

        explain_last(session, explain)
        say(f"where it looked: {explain}")


def _check_explain(target: Path, image: list[Path] | None, prompt: str | None) -> None:
    """Before the model is loaded."""
    if prompt is None or not image:
        raise SightlineError("--explain needs --prompt and --image: it draws one answer over its pictures")
    if target.suffix.lower() != ".png":
        raise SightlineError(f"--explain: {target} is no PNG; name a file that ends in .png")
    if not target.parent.is_dir():
        raise SightlineError(f"--explain: no folder {target.parent}; make it first")


def loss(
    checkpoint: Annotated[Path, typer.Argument(help="Directory of a trained run.")],
    data: Annotated[Path, typer.Argument(help="Samples, as JSON or JSONL.")],
    template: TemplateOption = None,
    image_root: ImageRootOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples that go through the model at once.")] = 8,
    quantize: QuantizeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Mean loss over the trained tokens, and that of every sample."""
    root = checked_root(image_root)
    from sightline.evaluate.sample_loss import measure, table
    from sightline.infer.load import load
    from sightline.train.device import choose_device, choose_dtype

    device = choose_device("auto")
    dtype = choose_dtype("auto", device)
    model, processor = load(checkpoint, device=device, dtype=dtype, template=template, quantize=quantize)
    found = measure(model, processor, data, root=root, batch=batch, limit=limit, say=say)
    print(json.dumps(found.to_json()) if as_json else table(found))
