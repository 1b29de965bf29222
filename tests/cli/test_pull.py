"""`famcli pull` and `--model NAME` as real processes, through the hub's own library, from a server of our own."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import make_random_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does, for the one repository someone/tiny in `folder`. asked: the files that were fetched."""

    folder: Path
    asked: list[str]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/someone/tiny/revision/main"):
            files = [{"rfilename": file.name, "size": file.stat().st_size} for file in self.folder.iterdir()]
            self._answer(json.dumps({"id": "someone/tiny", "sha": COMMIT, "siblings": files}).encode())
        elif path == f"/api/models/someone/tiny/tree/{COMMIT}":
            files = [{"type": "file", "path": each.name, "size": each.stat().st_size} for each in self.folder.iterdir()]
            self._answer(json.dumps([file | {"oid": file["path"]} for file in files]).encode())
        elif path.startswith("/api/models/someone/tiny"):
            self._fail(404, "RevisionNotFound")
        elif path.startswith("/api/models/someone/gated"):
            self._fail(403, "GatedRepo")
        elif path.startswith(f"/someone/tiny/resolve/{COMMIT}/"):
            file = self.folder / path.rpartition("/")[2]
            self.asked.append(file.name)
            self._answer(file.read_bytes())
        else:
            self._fail(401, "RepoNotFound")

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _fail(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *values: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    folder = make_random_checkpoint(tmp_path / "remote", fam=None)
    for name in ("pytorch_model.bin", "modeling_tiny.py"):
        (folder / name).write_text("x")

    class Here(Hub):
        asked: list[str] = []  # noqa: RUF012

    Here.folder = folder
    server = ThreadingHTTPServer(("127.0.0.1", 0), Here)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    yield Here
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_checkpoint_is_pulled_enabled_and_read(spawn: Any, hub: type[Hub], story: Path) -> None:
    pulled = spawn("pull", "someone/tiny", "--json")
    output, errors = pulled.communicate(timeout=120)
    assert pulled.returncode == 0, errors
    facts = json.loads(output)
    assert (facts["name"], facts["commit"], facts["family"]) == ("someone/tiny", COMMIT, "llama")
    assert sorted(set(hub.asked)) == sorted(facts["files"])
    assert {"config.json", "model.safetensors"} <= set(facts["files"])
    assert not {"pytorch_model.bin", "modeling_tiny.py"} & set(facts["files"])
    hub.asked.clear()
    again = spawn("enable", "someone/tiny")
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    read = spawn("ppl", story, "--model", "someone/tiny", "--json")
    output, errors = read.communicate(timeout=120)
    assert json.loads(output)["read"]["bytes"] == story.stat().st_size, errors
    assert hub.asked == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("someone/mispelt", "check the name, or `hf auth login`"),
        ("someone/gated", "accepted its terms"),
        ("someone/tiny@v9", "no revision 'v9'"),
    ],
)
def test_what_cannot_be_pulled_is_said_in_one_line(spawn: Any, hub: type[Hub], name: str, words: str) -> None:
    process = spawn("pull", name)
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, output) == (1, "")
    assert words in errors
    assert len(errors.splitlines()) == 1
    assert hub.asked == []
