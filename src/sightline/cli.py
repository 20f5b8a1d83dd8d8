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
from typing import Annotated

import typer

from sightline.errors import SightlineError

app = typer.Typer(
    help="Build vision-language assistants the LLaVA way.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


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
def describe(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key.path=value")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Parameters per part and tokens per picture, from configurations alone: no weights are loaded."""
    from sightline.config import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    from sightline.train.describe import describe_recipe, table

    found = describe_recipe(loaded)
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
        command(standalone_mode=False)
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
    return 0
