"""The command line: `sightline COMMAND`.

Comes in: arguments. Goes out: answers on stdout, progress on stderr, exit code 0, or 2 with one line for a mistake of
the user's. Every command imports what it needs when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.errors import SightlineError

if TYPE_CHECKING:
    from sightline.recipe import Recipe

app = typer.Typer(
    help="Build vision-language assistants the LLaVA way.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
TemplateOption = Annotated[str | None, typer.Option(help="A template, instead of the recipe's or checkpoint's.")]
ImageRootOption = Annotated[Path | None, typer.Option(help="Folder of the pictures; that of the data if not given.")]


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Where data, checkpoints and the report go.")] = Path("runs/demo"),
    pictures: Annotated[int, typer.Option(min=200, help="Training pictures.")] = 8000,
    new: Annotated[bool, typer.Option("--new", help="Start over, even if an earlier demo is there.")] = False,
) -> None:
    """The whole story on the embedded default: data, both stages, scores, a report with pictures."""
    from sightline.demo.story import run_demo

    for line in run_demo(output, pictures=pictures, new=new, say=_say):
        print(line)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe, such as recipes/llava-1.5-7b/align.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key.path=value, such as train.batch=64.")] = None,
    new: Annotated[bool, typer.Option("--new", help="Put the output directory aside and start over.")] = False,
) -> None:
    """Train one stage. Started again, a run continues from its newest whole checkpoint."""
    from sightline.config import load_recipe

    loaded = load_recipe(recipe, overrides or [])  # before the slow imports: a typo is answered at once
    from sightline.train.loop import train as run_training
    from sightline.train.run import prepare

    print(run_training(prepare(loaded, new=new, say=_say)))


@app.command()
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
    as_json: JsonFlag = False,
) -> None:
    """Ask about pictures: one answer, or a conversation in the terminal."""
    if as_json and prompt is None:
        raise SightlineError("--json needs --prompt: it prints one answer")
    from sightline.data.image import open_image
    from sightline.infer.chat import ChatSession, choose_device
    from sightline.infer.load import load
    from sightline.infer.sampling import Sampling
    from sightline.infer.terminal import converse

    sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, max_new_tokens=max_new_tokens, seed=seed)
    pictures = [open_image(path) for path in image or []]
    model, processor = load(checkpoint, device=choose_device())
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


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="Directory of a trained run.")],
    data: Annotated[Path, typer.Option(help="JSONL of questions with answers and categories.")],
    images: Annotated[Path, typer.Option(help="Folder of the pictures.")],
    output: Annotated[Path | None, typer.Option(help="Write the answers here, as JSONL.")] = None,
    swap_images: Annotated[
        bool, typer.Option("--swap-images", help="The blind baseline: pictures of other questions.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Questions answered at once.")] = 64,
    as_json: JsonFlag = False,
) -> None:
    """Accuracy by category on questions with short answers, by exact match."""
    from sightline.evaluate.short_answers import answer_questions, read_questions, score, table, write_answers
    from sightline.infer.chat import choose_device
    from sightline.infer.load import load

    questions = read_questions(data)
    model, processor = load(checkpoint, device=choose_device())
    answers = answer_questions(model, processor, questions, root=images, swap_images=swap_images, batch=batch, say=_say)
    if output is not None:
        write_answers(output, answers)
    scores = score(answers)
    print(json.dumps(scores.to_json()) if as_json else table({"accuracy": scores}))


@app.command()
def inspect(
    source: Annotated[Path, typer.Argument(metavar="RECIPE_OR_CHECKPOINT", help="A YAML file, or a run's directory.")],
    data: Annotated[Path, typer.Argument(help="Samples, as JSON or JSONL.")],
    only: Annotated[str | None, typer.Option("--id", help="Only the sample of this id.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    template: TemplateOption = None,
    image_root: ImageRootOption = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """What the model sees of samples: segments, ids, what is trained on, pictures. Exit code 1 if one is unusable."""
    recipe = _recipe_of(source, template)  # before the slow imports: a typo is answered at once
    root = _folder(image_root, data)
    from sightline.data.inspection import inspect_file
    from sightline.data.inspection_page import PAGE_SAMPLES, write_page
    from sightline.data.inspection_terminal import print_json, print_samples
    from sightline.infer.load import load_processor_alone
    from sightline.train.assemble import assemble_processor

    processor = load_processor_alone(source, template=template) if recipe is None else assemble_processor(recipe)
    on_page = limit or PAGE_SAMPLES
    if html is not None and not as_json:
        limit = on_page
    seen = inspect_file(data, processor, root=root, only=only, limit=limit)
    if as_json:
        seen = print_json(seen, out=sys.stdout, say=_say)
    elif html is None:
        seen = print_samples(seen, processor.tokenizer, out=sys.stdout)
    if html is not None:
        seen = write_page(html, seen, processor, data=data, root=root, most=on_page, say=_say)
    unusable = sum(one.refused is not None for one in seen)
    if html is not None and not as_json:
        print(html)
    if unusable:
        raise typer.Exit(1)


@app.command()
def loss(
    checkpoint: Annotated[Path, typer.Argument(help="Directory of a trained run.")],
    data: Annotated[Path, typer.Argument(help="Samples, as JSON or JSONL.")],
    template: TemplateOption = None,
    image_root: ImageRootOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples that go through the model at once.")] = 8,
    as_json: JsonFlag = False,
) -> None:
    """Mean loss over the trained tokens, and that of every sample."""
    root = _folder(image_root, data)
    from sightline.evaluate.sample_loss import measure, table
    from sightline.infer.load import load
    from sightline.train.device import choose_device, choose_dtype

    device = choose_device("auto")
    model, processor = load(checkpoint, device=device, dtype=choose_dtype("auto", device), template=template)
    found = measure(model, processor, data, root=root, batch=batch, limit=limit, say=_say)
    print(json.dumps(found.to_json()) if as_json else table(found))


@app.command("import")
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

    report = import_checkpoint(source, target, base=base, vision=vision, template=template, say=_say)
    print(json.dumps(asdict(report)) if as_json else "\n".join(report.lines()))


@app.command()
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


@app.command()
def describe(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key.path=value")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Parameters per part, tokens per picture, possible exports: from configurations alone, no weights are loaded."""
    from sightline.config import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    from sightline.exchange.formats import obstacles_of_parts
    from sightline.train.assemble import tokenizer_of
    from sightline.train.describe import describe_recipe, table

    tokenizer = tokenizer_of(loaded)
    found = describe_recipe(loaded, exports=lambda parts: obstacles_of_parts(parts, tokenizer))
    print(json.dumps(found) if as_json else table(found))


@app.command()
def parts(
    part: Annotated[str, typer.Argument(help="vision or language")],
    output: Annotated[Path, typer.Option(help="Directory to write.")],
    steps: Annotated[int | None, typer.Option(help="Optimizer steps, instead of the published run's.")] = None,
) -> None:
    """Train a small part of the embedded default anew (hours on a laptop; the package brings both)."""
    from sightline.demo.make_parts import make_part

    make_part(part, output, steps=steps, say=_say)


def _recipe_of(source: Path, template: str | None) -> Recipe | None:
    """The recipe that is meant: the file itself, or that of a run which has no model yet; None for a checkpoint."""
    if (source / "recipe.yaml").is_file() and not (source / "sightline.json").exists():
        source = source / "recipe.yaml"
    if not source.is_file() and source.suffix not in (".yaml", ".yml"):
        return None
    from sightline.config import load_recipe

    recipe = load_recipe(source)
    return recipe if template is None else recipe.model_copy(update={"template": template})


def _folder(image_root: Path | None, data: Path) -> Path:
    """Where the pictures are."""
    if image_root is not None and not image_root.is_dir():
        raise SightlineError(f"--image-root: no folder {image_root}; give the one that the pictures' paths start from")
    return data.parent if image_root is None else image_root


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def main() -> None:
    """The entry point: a `SightlineError` becomes one line and its exit code."""
    sys.exit(run(app))


def run(command: Callable[..., object]) -> int:
    """Runs the command line; returns the exit code."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # our own bar is the one to watch
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        code = command(standalone_mode=False)
    except SightlineError as error:
        _say(f"sightline: {error}")
        return error.exit_code
    except typer.Abort:
        return 130
    except KeyboardInterrupt:
        _say("sightline: interrupted")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as error:
        if type(error).__module__.partition(".")[0] in ("click", "typer") and hasattr(error, "format_message"):
            message = error.format_message()
            _say(message if message.startswith("Usage:") else f"sightline: {message}")  # no command: the whole help
            return 2
        raise
    return code if isinstance(code, int) else 0  # a command returns nothing, or left by `typer.Exit` with its code
