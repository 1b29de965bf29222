"""A hub of one small checkpoint on this machine, for `famcli pull` with the library that fetches."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).parents[2]
REPOSITORY = "someone/tiny"
_COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a hub whose repository is the files of `folder`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_message(self, *args: object) -> None:
            pass

        def _answer(self, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            if path.startswith("/api/"):
                files = [
                    {"rfilename": each.name, "path": each.name, "size": each.stat().st_size, "type": "file", "oid": "1"}
                    for each in sorted(folder.iterdir())
                ]
                info = {"_id": "1", "id": REPOSITORY, "modelId": REPOSITORY, "sha": _COMMIT, "siblings": files}
                data, kind = json.dumps(files if "/tree/" in path else info).encode(), "application/json"
            elif (file := folder / path.rpartition("/")[2]).is_file():
                data, kind = file.read_bytes(), "application/octet-stream"
            else:
                data, kind = b"", ""
            self.send_response(200 if kind else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Repo-Commit", _COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.end_headers()
            # In parts, so that a signal or a kill finds a file half fetched.
            for start in range(0, len(data) if with_body else 0, 4096):
                self.wfile.write(data[start : start + 4096])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda request, address: None  # type: ignore[method-assign]  # clients that are killed
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def fetching(address: str, cache: Path) -> Callable[[], None]:
    """`famcli pull` in a program of its own: the library reads its settings when it is imported."""

    def run() -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "FAMCLI_"))}
        environ = kept | {"HF_ENDPOINT": address, "HF_HUB_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
        environ |= {"HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        os.execve(sys.executable, [sys.executable, "-m", "famcli", "pull", REPOSITORY], environ)

    return run
