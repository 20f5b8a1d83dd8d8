"""The process that serves: sockets, deadlines, signals.

Comes in: an application and its `Service`. Goes out: when the process is told to stop, or when an engine has died.
uvicorn speaks HTTP; what it has no limit for (slow headers, clients that do not read) is limited here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import time
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from sightline.errors import ConfigError, SightlineError
from sightline.serve.guard import HEADER_BYTES, LOOPBACK_NAMES, Door
from sightline.serve.service import Service

CONNECTIONS = 900
"""Below the 1024 files that a process may usually have open."""
SHORTEST_KEY = 16
"""Characters of an API key: shorter ones can be guessed."""
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class EngineError(SightlineError):
    """An engine ended by itself: a supervisor starts the process anew. The code is EX_SOFTWARE of sysexits.h."""

    exit_code = 70


def door_for(host: str, key: str | None) -> Door:
    """Who may ask a server that listens on `host`.

    Raises:
        ConfigError: others could reach it, and there is no key, or a short one.
    """
    if key is not None and len(key) < SHORTEST_KEY:
        raise ConfigError(f"--api-key-env: the key has {len(key)} characters, expected at least {SHORTEST_KEY}")
    if is_loopback(host):
        return Door(hosts=LOOPBACK_NAMES | {host.lower(), f"[{host.lower()}]"}, key=key)
    if key is None:
        raise ConfigError(
            f"--host {host}: others can reach it, so it needs a key: put one into an environment variable and name "
            "that with --api-key-env, or leave --host out"
        )
    return Door(hosts=None, key=key)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; `ConfigError` where there can be none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=512)
        # Connections inherit it; asyncio sets it only where a socket names its protocol, as this one does not. Without
        # it the second write of an answer waits for the client's delayed acknowledgement of the first: 40 ms.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "no such address"
        raise ConfigError(f"--host {host} --port {port}: {reason}; choose another") from error


def run(app: ASGIApp, service: Service, listening: socket.socket) -> None:
    """Serves until SIGTERM or SIGINT, then lets running answers end; a second signal ends the process at once.

    Raises:
        EngineError: an engine died.
    """

    class Protocol(DeadlineProtocol):
        receive, stall = service.limits.receive, service.limits.stall

    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_graceful_shutdown=3,
    )
    server = Server(config, service)
    server.run(sockets=[listening])
    service.close()
    if server.died:
        raise EngineError("an engine ended by itself; start the server again, and report this with the lines above")


class Server(uvicorn.Server):
    """uvicorn's, with a drain that the service knows of."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.died = False
        self._service = service
        self._until = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came."""
        if self._service.stopping:
            os._exit(128 + sig)  # nothing on the disk is half-written
        self._service.stopping = True
        self._until = time.monotonic() + self._service.limits.drain

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop now; uvicorn asks ten times a second."""
        service = self._service
        if service.stopping:
            if service.taken and time.monotonic() < self._until:
                return False
            await asyncio.to_thread(service.close)  # what is left gets an error as its last event
            return True
        self.died = not all(served.engine.alive for served in service.models.values())
        return self.died or await super().on_tick(counter)


class DeadlineProtocol(H11Protocol):
    """HTTP, with an end to patience: `receive` seconds for the headers, `stall` for a client that does not read."""

    receive = 15.0
    stall = 30.0
    _headers: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_headers()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._headers, self._unread):
            if timer is not None:
                timer.cancel()

    def pause_writing(self) -> None:
        """More is waiting for the client than the transport holds."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.stall, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _await_headers(self) -> None:
        """Between requests the clock runs; while one is being answered it does not."""
        between = self.cycle is None or self.cycle.response_complete
        if between and self._headers is None:
            self._headers = self.loop.call_later(self.receive, self._too_slow)
        elif not between and self._headers is not None:
            self._headers.cancel()
            self._headers = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_TOO_SLOW)
            self.transport.close()
