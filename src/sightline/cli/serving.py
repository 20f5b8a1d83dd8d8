"""The command that puts models on the network: `serve`."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.common import QuantizeOption, say
from sightline.errors import ConfigError


def serve(
    checkpoint: Annotated[list[Path], typer.Argument(help="Directories of trained runs.")],
    host: Annotated[str, typer.Option(help="Where to listen; beyond this machine only with an API key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    api_key_env: Annotated[str | None, typer.Option(help="The environment variable that holds the API key.")] = None,
    image_host: Annotated[
        list[str] | None, typer.Option(help="Pictures may be fetched from https://HOST; may be given several times.")
    ] = None,
    collect: Annotated[Path | None, typer.Option(help="Append feedback to this JSONL, as training data.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Requests answered at once, per model.")] = 16,
    queue: Annotated[int, typer.Option(min=0, help="Requests that may wait, per model.")] = 64,
    remember: Annotated[int, typer.Option(min=0, help="Conversations kept for their next turn, per model.")] = 16,
    quantize: QuantizeOption = None,
) -> None:
    """An OpenAI-compatible API and a web chat, on this machine."""
    try:
        import uvicorn  # noqa: F401
    except ImportError:
        raise ConfigError("serve needs two more libraries: pip install 'sightline[serve]'") from None
    from sightline.infer.chat import choose_device, choose_dtype
    from sightline.infer.load import load
    from sightline.model.checkpoint import read_info
    from sightline.serve.app import build_app
    from sightline.serve.feedback import Collection
    from sightline.serve.fetch import Fetcher
    from sightline.serve.limits import Limits
    from sightline.serve.server import door_for, listen, run
    from sightline.serve.service import Service, card_of, names_of

    door = door_for(host, _key(api_key_env))
    fetch = Fetcher(image_host) if image_host else None
    collection = None if collect is None else Collection(collect, fetch=fetch)
    listening = listen(host, port)
    service = Service(limits=Limits(rows=rows, queue=queue, remembered=remember), fetch=fetch, told=say)
    folders = [folder.resolve() for folder in checkpoint]
    device = choose_device()
    loaded = partial(load, device=device, dtype=choose_dtype(device), quantize=quantize)
    for name, folder in zip(names_of(folders), folders, strict=True):
        with ThreadPoolExecutor(1) as aside:  # see `sightline.serve.engine`
            model, processor = aside.submit(loaded, folder).result()
        service.add(name, model, processor, card=card_of(model, processor, read_info(folder)))
        say(f"{name}: loaded")
    address, number = listening.getsockname()[:2]
    say(f"listening on http://{f'[{address}]' if ':' in address else address}:{number}")
    run(build_app(service, door=door, collection=collection), service, listening)


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    if not os.environ.get(variable):
        raise ConfigError(f"--api-key-env {variable}: that environment variable is not set; put the key into it")
    return os.environ[variable]
