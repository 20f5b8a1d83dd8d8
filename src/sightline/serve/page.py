"""The page: files of the package, at fixed addresses.

Comes in: nothing but a path. Goes out: one of the files that were there at the start, or none: no path of a request
ever becomes the name of a file. The policy lets the page load and call nothing but this server.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
}
"""Endings of the files that are served."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-cache",
}


def page_files() -> dict[str, tuple[bytes, str]]:
    """Address -> content and type; empty where the package brings no page."""
    folder = resources.files("sightline.serve").joinpath("page")
    files = dict(_files(folder, "/")) if folder.is_dir() else {}
    return files | ({"/": files["/index.html"]} if "/index.html" in files else {})


def page_routes(files: dict[str, tuple[bytes, str]]) -> list[Route]:
    """A route for each file."""

    async def send(request: Request) -> Response:
        content, kind = files[request.url.path]
        return Response(content, media_type=kind, headers=HEADERS)

    return [Route(path, send, methods=["GET"], include_in_schema=False) for path in files]


def _files(folder: Traversable, at: str) -> Iterator[tuple[str, tuple[bytes, str]]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _files(entry, f"{at}{entry.name}/")
        elif entry.name.rpartition(".")[2] in TYPES:
            yield at + entry.name, (entry.read_bytes(), TYPES[entry.name.rpartition(".")[2]])
