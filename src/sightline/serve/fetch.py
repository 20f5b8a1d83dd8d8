"""Pictures on other machines, for operators who allow some hosts.

Comes in: an https address. Goes out: the bytes behind it, or a `Refusal`. The address is read once, by one expression,
and what was checked is what is asked: the name must be on the list, it is resolved once, every address it has must be
public, and the connection goes to one of those. A redirect starts all of that anew. Proxies of the environment are not
used.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import closing, suppress
from urllib.parse import urljoin

from sightline.serve.limits import PICTURE_BYTES
from sightline.serve.refusals import Refusal

SECONDS = 5.0
"""For one picture, redirects included."""
REDIRECTS = 3
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_PATH = r'[!"$-\[\]-~]*'  # printable, but for the number sign and the backslash
_ADDRESS = re.compile(rf"https://({_LABEL}(?:\.{_LABEL})+)(?::443)?(/{_PATH})?")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""IPv4 addresses in IPv6 (RFC 6052, section 2.1), which a gateway would turn back into what is not public."""


def _resolve(host: str) -> Sequence[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)]


def _dial(address: str, seconds: float) -> socket.socket:
    return socket.create_connection((address, 443), timeout=seconds)


class Fetcher:
    """Fetches from some hosts.

    Args:
        hosts: their names, exactly.
        resolve: a name to its addresses.
        dial: a connection to an address, port 443.
        trust: whose certificates are believed.
    """

    def __init__(
        self,
        hosts: Collection[str],
        *,
        resolve: Callable[[str], Sequence[str]] = _resolve,
        dial: Callable[[str, float], socket.socket] = _dial,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._resolve, self._dial = resolve, dial
        self._trust = trust or ssl.create_default_context()

    def __call__(self, address: str) -> bytes:
        """The bytes behind an address.

        Raises:
            Refusal: `image_url_not_allowed`, `image_too_large` or `image_fetch_failed`.
        """
        deadline = time.monotonic() + SECONDS
        for _ in range(1 + REDIRECTS):
            host, path = self._checked(address)
            try:
                found = self._get(host, path, deadline)
            except (OSError, http.client.HTTPException, UnicodeError, ValueError):
                raise Refusal("image_fetch_failed") from None
            if isinstance(found, bytes):
                return found
            address = urljoin(f"https://{host}{path}", found)
        raise Refusal("image_fetch_failed")

    def _checked(self, address: str) -> tuple[str, str]:
        found = _ADDRESS.fullmatch(address)
        if found is None or found.group(1).lower() not in self._hosts:
            raise Refusal("image_url_not_allowed")
        return found.group(1).lower(), found.group(2) or "/"

    def _get(self, host: str, path: str, deadline: float) -> bytes | str:
        """The body, or where it has moved."""
        addresses = self._resolve(host)
        if not addresses or not all(map(is_public, addresses)):
            raise Refusal("image_url_not_allowed")
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        with closing(self._dial(addresses[0], left)) as plain:
            # The timeout of a socket begins anew with every byte; the end of all patience does not.
            cut = threading.Timer(left, _cut, [plain])
            cut.start()
            try:
                with self._trust.wrap_socket(plain, server_hostname=host) as secure:
                    return _asked(secure, host, path, deadline)
            finally:
                cut.cancel()


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _asked(connection: ssl.SSLSocket, host: str, path: str, deadline: float) -> bytes | str:
    client = http.client.HTTPConnection(host)
    client.sock = connection
    client.request("GET", path, headers={"Accept": "image/png, image/jpeg, image/webp", "Connection": "close"})
    response = client.getresponse()
    if response.status in (301, 302, 303, 307, 308):
        return response.getheader("Location") or ""
    if response.status != 200 or response.getheader("Content-Encoding", "identity") != "identity":
        raise Refusal("image_fetch_failed")
    body = bytearray()
    while part := response.read1(2**16):
        body += part
        if len(body) > PICTURE_BYTES:
            raise Refusal("image_too_large")
        if time.monotonic() > deadline:
            raise TimeoutError
    return bytes(body)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, also where it is written inside of another."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        elif found.sixtofour is not None or found.teredo is not None or found in _NAT64:
            return False
    return found.is_global and not found.is_multicast
