"""Pictures from other machines: what is asked is what was checked, at every hop."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from sightline.serve import fetch
from sightline.serve.fetch import Fetcher, is_public
from sightline.serve.limits import PICTURE_BYTES
from sightline.serve.refusals import Refusal
from tests.serve.running import RED, encoded

PUBLIC = "93.184.216.34"
OK = "pictures.example"


class Pages(BaseHTTPRequestHandler):
    """What lies where on the one server that all names lead to in these tests."""

    asked: ClassVar[list[tuple[str, str]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.headers["Host"], self.path))
        name = self.path.partition("?")[0]
        if name.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.partition("?")[2])
            self.end_headers()
            return
        self.send_response(404 if name == "/missing" else 200)
        if name == "/packed":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        try:
            if name == "/endless":
                while True:
                    self.wfile.write(b"\0" * 2**20)
            elif name == "/slow":
                for _ in range(100):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.1)
            else:
                self.wfile.write(encoded(RED))
        except OSError:
            pass  # the other side has had enough

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command, to make a certificate")
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={OK}",
         "-addext", f"subjectAltName=DNS:{OK},DNS:other.example", "-keyout", "key.pem", "-out", "certificate.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder


@contextmanager
def fetcher(certificate: Path, hosts: list[str], addresses: dict[str, list[str]]) -> Iterator[Fetcher]:
    """A `Fetcher` for which every name leads to one server here, under addresses of the test's choice."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "certificate.pem", certificate / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    Pages.asked.clear()

    def dial(address: str, seconds: float) -> socket.socket:
        assert is_public(address)
        return socket.create_connection(server.server_address[:2], timeout=seconds)

    trust = ssl.create_default_context(cafile=str(certificate / "certificate.pem"))
    try:
        yield Fetcher(hosts, resolve=lambda host: addresses[host].copy(), dial=dial, trust=trust)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_picture_of_an_allowed_host_is_fetched(certificate: Path) -> None:
    with fetcher(certificate, [OK], {OK: [PUBLIC]}) as get:
        assert get(f"https://{OK}/a.png?b=c") == encoded(RED)
        assert get(f"https://{OK.upper()}:443/to/x?/a.png") == encoded(RED)
    assert Pages.asked[0] == (OK, "/a.png?b=c")


REFUSED = [
    f"http://{OK}/", f"https://{OK}:8443/", f"https://user@{OK}/", f"https://{OK}@127.0.0.1/", f"https://{OK}\\@evil.example/",
    f"https://{OK}.evil.example/", f"https://evil.example/{OK}", "https://127.0.0.1/", "https://[::1]/", "https://2130706433/",
    f"https://{OK}/a b", f"https://{OK}/\r\nX: y", f"https://{OK}#@evil.example/", f"https://{OK}./",
]  # fmt: skip


@pytest.mark.parametrize("address", REFUSED)
def test_other_addresses_are_not_asked(certificate: Path, address: str) -> None:
    with fetcher(certificate, [OK], {OK: [PUBLIC]}) as get, pytest.raises(Refusal) as caught:
        get(address)
    assert caught.value.code == "image_url_not_allowed"
    assert Pages.asked == []


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], [PUBLIC, "127.0.0.1"], ["10.1.2.3"], ["169.254.169.254"], ["::1"], ["::ffff:127.0.0.1"], []],
)
def test_a_name_that_leads_inside_is_not_asked(certificate: Path, addresses: list[str]) -> None:
    with fetcher(certificate, [OK], {OK: addresses}) as get, pytest.raises(Refusal) as caught:
        get(f"https://{OK}/a.png")
    assert caught.value.code == "image_url_not_allowed"
    assert Pages.asked == []


def test_a_name_is_resolved_once_for_each_hop_and_what_was_checked_is_dialled(certificate: Path) -> None:
    """DNS that answers public first and private then is asked once."""
    answers = [[PUBLIC], ["127.0.0.1"]]
    with fetcher(certificate, [OK], {}) as get:
        get._resolve = lambda host: answers.pop(0)
        assert get(f"https://{OK}/a.png") == encoded(RED)
        assert len(answers) == 1
        with pytest.raises(Refusal):
            get(f"https://{OK}/a.png")


@pytest.mark.parametrize(
    "target",
    ["https://127.0.0.1/", "http://pictures.example/a.png", "https://other.example/a.png", "https://pictures.example:444/",
     "file:///etc/passwd", "//evil.example/", ""],
)  # fmt: skip
def test_a_redirect_is_checked_like_the_first_address(certificate: Path, target: str) -> None:
    with fetcher(certificate, [OK], {OK: [PUBLIC], "other.example": [PUBLIC]}) as get, pytest.raises(Refusal) as caught:
        get(f"https://{OK}/to/x?{target}")
    assert caught.value.code in ("image_url_not_allowed", "image_fetch_failed")
    assert [path for _, path in Pages.asked if path.startswith("/to")] == [path for _, path in Pages.asked]


def test_redirects_have_an_end(certificate: Path) -> None:
    with fetcher(certificate, [OK], {OK: [PUBLIC]}) as get, pytest.raises(Refusal) as caught:
        get(f"https://{OK}/to/x?/to/x?/to/x?/to/x?/to/x?/a.png")
    assert caught.value.code == "image_fetch_failed"
    assert len(Pages.asked) <= 4


@pytest.mark.parametrize(
    ("path", "code"),
    [("/endless", "image_too_large"), ("/missing", "image_fetch_failed"), ("/packed", "image_fetch_failed")],
)
def test_what_is_too_large_missing_or_packed_is_given_up(certificate: Path, path: str, code: str) -> None:
    with fetcher(certificate, [OK], {OK: [PUBLIC]}) as get, pytest.raises(Refusal) as caught:
        get(f"https://{OK}{path}")
    assert caught.value.code == code
    assert PICTURE_BYTES == 8 * 2**20


def test_patience_has_an_end_however_slowly_bytes_drip(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SECONDS", 0.5)
    started = time.perf_counter()
    with fetcher(certificate, [OK], {OK: [PUBLIC]}) as get:
        with pytest.raises(Refusal) as caught:
            get(f"https://{OK}/slow")
        assert time.perf_counter() - started < 4
    assert caught.value.code == "image_fetch_failed"


def test_a_certificate_of_another_is_not_believed(certificate: Path) -> None:
    with fetcher(certificate, ["wrong.example"], {"wrong.example": [PUBLIC]}) as get, pytest.raises(Refusal) as caught:
        get("https://wrong.example/a.png")
    assert caught.value.code == "image_fetch_failed"
    assert Pages.asked == []


def test_proxies_of_the_environment_are_not_used(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with fetcher(certificate, [OK], {OK: [PUBLIC]}) as get:
        assert get(f"https://{OK}/a.png") == encoded(RED)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        (PUBLIC, True), ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False), ("0.0.0.0", False), ("10.0.0.1", False), ("172.16.0.1", False), ("192.168.1.1", False),
        ("169.254.169.254", False), ("100.64.0.1", False), ("224.0.0.1", False), ("255.255.255.255", False),
        ("::", False), ("::1", False), ("fe80::1%eth0", False), ("fc00::1", False), ("ff02::1", False),
        ("::ffff:127.0.0.1", False), ("::ffff:10.0.0.1", False), (f"::ffff:{PUBLIC}", True),
        ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False), ("2001:0:53aa:64c:0:0:80ff:fffe", False),
    ],
)  # fmt: skip
def test_addresses_of_the_public_internet_are_told_from_all_others(address: str, public: bool) -> None:
    assert is_public(address) is public
