"""Pages of the web, from a server of this machine: bounded, judged at every redirect, and kept under their address."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from famcli.documents import fetching, open_source
from famcli.documents.fetching import fetch, is_address
from famcli.errors import DocumentError

PAGE = b"<html><head><title>Harbour</title></head><body><p>The board met.</p></body></html>"


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body, status = PAGE, 200
        path, _, there = self.path.partition("?to=")
        if path == "/moved":
            self.send_response(302)
            self.send_header("Location", there)
            self.end_headers()
            return
        if path == "/missing":
            status = 404
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + (100 if path == "/broken" else 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    served = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()
    thread.join()


def test_a_page_is_fetched_and_named_by_its_address(server: str, tmp_path: Path) -> None:
    seen = list[str]()
    path = fetch(f"{server}/moved?to=/caf%C3%A9/page.html", tmp_path, seen.append, allow_private=True)
    assert seen == [f"{server}/caf%C3%A9/page.html"]
    assert path.name == "café_page.html".partition("_")[2]
    assert path.read_bytes() == PAGE
    assert path.stat().st_mode & 0o077 == 0
    with open_source(path) as source:
        assert (source.name, source.format) == (f"{server}/caf%C3%A9/page.html", "html")
    assert fetch(f"{server}/moved?to=/caf%C3%A9/page.html", tmp_path, allow_private=True) == path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/missing", "answered 404"),
        ("/broken", "broke off"),
        ("/moved?to=/moved?to=/moved?to=/moved?to=/moved?to=/moved?to=/moved", "on and on"),
        ("/moved?to=file:///etc/passwd", "no address of a page"),
        ("/large", "larger than 0 MB"),
    ],
)
def test_what_goes_wrong_is_told(server: str, tmp_path: Path, path: str, expected: str) -> None:
    limit = 10 if path == "/large" else 1000
    with pytest.raises(DocumentError, match=expected):
        fetch(server + path, tmp_path, allow_private=True, limit=limit)
    assert not [one for one in tmp_path.rglob("*") if one.is_file()]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0"]
)
def test_private_addresses_are_refused_unless_asked_for(tmp_path: Path, host: str) -> None:
    with pytest.raises(DocumentError, match="private network") as caught:
        fetch(f"http://{host}/", tmp_path)
    assert caught.value.remedy == {"allow_private": ""}


def test_a_redirect_is_judged_as_the_first_address(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A public name whose server is this one, and which leads to a private address.
    look_up, connect = socket.getaddrinfo, socket.create_connection
    port = int(server.rpartition(":")[2])

    def public(host: str, *rest: object, **more: object) -> object:
        return [(2, 1, 6, "", ("93.184.216.34", 80))] if host == "example.org" else look_up(host, *rest, **more)

    asked = list[tuple[str, int]]()

    def connected(address: tuple[str, int], *rest: object, **more: object) -> socket.socket:
        asked.append(address)
        return connect(("127.0.0.1", port), *rest, **more)

    monkeypatch.setattr(fetching.socket, "getaddrinfo", public)
    monkeypatch.setattr(fetching.socket, "create_connection", connected)
    assert fetch("http://example.org/page", tmp_path).read_bytes() == PAGE
    with pytest.raises(DocumentError, match="private network"):
        fetch(f"http://example.org/moved?to={server}/", tmp_path)
    assert asked == [("93.184.216.34", 80)] * 2, "it connects to what was judged, and to nothing else"


def test_addresses() -> None:
    assert is_address("https://example.org")
    assert not is_address("ftp://example.org")
    assert not is_address("page.html")
    for bad in (
        "http://user:secret@example.org/",
        "http:///page",
        "http://example.org:99999/",
        "http://no.such.invalid/",
    ):
        with pytest.raises(DocumentError) as caught:
            fetch(bad, Path("/nowhere"))
        assert "secret" not in str(caught.value)
