"""The command line: `sightline COMMAND`.

Comes in: arguments. Goes out: answers on stdout, progress on stderr, exit code 0, or 2 with one line for a mistake of
the user's. Every command imports what it needs when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import typer

from sightline.cli.checkpoints import export, import_
from sightline.cli.checks import check, stats
from sightline.cli.common import say
from sightline.cli.datasets import convert
from sightline.cli.embedded import demo, parts
from sightline.cli.exams import compare, evaluate
from sightline.cli.judging import judge
from sightline.cli.models import chat, loss
from sightline.cli.probing import probe
from sightline.cli.recipes import describe, plan, train
from sightline.cli.samples import inspect
from sightline.cli.scores import score
from sightline.cli.serving import serve
from sightline.cli.synth import synth
from sightline.errors import SightlineError

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "train": train,
    "chat": chat,
    "serve": serve,
    "evaluate": evaluate,
    "compare": compare,
    "score": score,
    "judge": judge,
    "probe": probe,
    "inspect": inspect,
    "check": check,
    "stats": stats,
    "loss": loss,
    "import": import_,
    "export": export,
    "describe": describe,
    "plan": plan,
    "convert": convert,
    "synth": synth,
    "parts": parts,
}

app = typer.Typer(
    help="Build vision-language assistants the LLaVA way.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


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
        say(f"sightline: {error}")
        return error.exit_code
    except typer.Abort:
        return 130
    except KeyboardInterrupt:
        say("sightline: interrupted")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as error:
        if type(error).__module__.partition(".")[0] in ("click", "typer") and hasattr(error, "format_message"):
            message = error.format_message()
            say(message if message.startswith("Usage:") else f"sightline: {message}")  # no command: the whole help
            return 2
        raise
    return code if isinstance(code, int) else 0  # a command returns nothing, or left by `typer.Exit` with its code
