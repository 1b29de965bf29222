"""Fetching from the hub, with its library's calls replaced and its real cache layout made on disk."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from famcli.checkpoint.hub import is_offline, pull, wanted_files
from famcli.checkpoint.locate import HubName, list_models, resolve
from famcli.errors import CheckpointError
from tests.checkpoint.gguf_files import write_gguf
from tests.helpers import make_random_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TINY = HubName("someone/tiny", None, "main")


class FakeHub:
    """One repository: its files lie in `folder`, and what is asked of it is kept in `asked`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked, self.error = folder, list[Any](), None

    def model_info(self, repo: str, *, revision: str, files_metadata: bool) -> Any:
        self.asked.append((repo, revision))
        if self.error is not None:
            raise self.error
        assert files_metadata
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        siblings = [
            SimpleNamespace(rfilename=str(path.relative_to(self.folder)), size=path.stat().st_size) for path in files
        ]
        return SimpleNamespace(sha=COMMIT, siblings=siblings)

    def snapshot_download(self, repo: str, *, revision: str, cache_dir: Path, allow_patterns: list[str]) -> str:
        """Lay files out as the library does: blobs, links to them in a snapshot, and the revision's commit."""
        self.asked.append(allow_patterns)
        repository = Path(cache_dir) / f"models--{repo.replace('/', '--')}"
        snapshot = repository / "snapshots" / COMMIT
        for place in (repository / "blobs", repository / "refs", snapshot):
            place.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(allow_patterns):
            shutil.copyfile(self.folder / name, repository / "blobs" / f"{number:064x}")
            (snapshot / name).unlink(missing_ok=True)
            (snapshot / name).symlink_to(f"../../blobs/{number:064x}")
        (repository / "refs" / revision).write_text(COMMIT)
        return str(snapshot)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """A decoder as it lies on the hub, with a pickle and code beside it."""
    folder = make_random_checkpoint(tmp_path / "remote", fam=None)
    for name in ("pytorch_model.bin", "modeling_tiny.py", "README.md", "chat_template.jinja"):
        (folder / name).write_text("x")
    fake = FakeHub(folder)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: fake)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    return fake


@pytest.fixture
def environ(tmp_path: Path) -> Mapping[str, str]:
    return {"HF_HUB_CACHE": str(tmp_path / "cache")}


def test_only_what_is_read_is_fetched(hub: FakeHub, environ: Mapping[str, str]) -> None:
    (hub.folder / "tokenizer.json").write_text("{}")
    done = pull(TINY, environ)
    assert set(done.files) == {
        "README.md", "chat_template.jinja", "config.json", "model.safetensors", "tokenizer.bytes", "tokenizer.json",
    }  # fmt: skip
    assert hub.asked == [("someone/tiny", "main"), list(done.files)]
    assert done.num_bytes == sum((hub.folder / name).stat().st_size for name in done.files)
    assert (done.commit, done.path.name) == (COMMIT, COMMIT)
    assert resolve("someone/tiny", environ).path == done.path


def test_a_name_is_fetched_once(hub: FakeHub, environ: Mapping[str, str]) -> None:
    for _ in range(2):
        assert resolve("someone/tiny", environ, fetch=pull).where == "hub cache"
    assert len(hub.asked) == 2  # the list of files, and the files
    with pytest.raises(CheckpointError, match="famcli pull someone/other"):
        resolve("someone/other", environ)


def test_what_was_broken_off_is_fetched_again(hub: FakeHub, environ: Mapping[str, str]) -> None:
    found = resolve("someone/tiny", environ, fetch=pull)
    (found.path / "model.safetensors").unlink()
    assert resolve("someone/tiny", environ, fetch=pull).path == found.path
    assert (found.path / "model.safetensors").is_file()


@pytest.mark.parametrize("variable", ["FAMCLI_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_touches_nothing(variable: str, hub: FakeHub, environ: Mapping[str, str]) -> None:
    assert is_offline({variable: "1"})
    assert not is_offline({variable: "0"})
    with pytest.raises(CheckpointError, match="offline"):
        pull(TINY, {**environ, variable: "yes"})
    assert hub.asked == []
    done = pull(TINY, environ)
    assert replace(done, checked=False) == pull(TINY, {**environ, variable: "yes"})
    assert len(hub.asked) == 2


def _failed(kind: type[Exception], status: int) -> Exception:
    import httpx2

    request = httpx2.Request("GET", "https://hub.example/api")
    return kind("no\nsuch thing", response=httpx2.Response(status, request=request))  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("error", "words", "is_answer"),
    [
        (_failed(errors.RepositoryNotFoundError, 404), "no folder, and the hub has none", True),
        (_failed(errors.GatedRepoError, 403), "accepted its terms", True),
        (_failed(errors.RevisionNotFoundError, 404), "no revision 'main'", True),
        (_failed(errors.HfHubHTTPError, 500), "could not be fetched", False),
        (ConnectionError("no route"), r"no route\); check the connection", False),
    ],
)
def test_failures_are_one_line(
    error: Exception, words: str, is_answer: bool, hub: FakeHub, environ: Mapping[str, str]
) -> None:
    hub.error = error
    with pytest.raises(CheckpointError, match=words) as caught:
        pull(TINY, environ)
    assert "\n" not in str(caught.value)
    hub.error = None
    done = pull(TINY, environ)
    hub.error = error
    if is_answer:
        with pytest.raises(CheckpointError, match=words):
            pull(TINY, environ)
    else:
        assert replace(done, checked=False) == pull(TINY, environ)
        (done.path / "tokenizer.bytes").unlink()
        with pytest.raises(CheckpointError, match=words):
            pull(TINY, environ)


def test_a_download_that_fails_is_told_of(
    hub: FakeHub, environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pull(TINY, environ)

    def fail(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(CheckpointError, match="No space left"):
        pull(TINY, environ)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["config.json", "pytorch_model.bin"], "pickles"),
        (["README.md"], "holds no checkpoint"),
        (["config.json", "a.gguf", "b.gguf"], "choose one: someone/tiny/a.gguf, someone/tiny/b.gguf"),
    ],
)
def test_repositories_without_a_checkpoint(files: list[str], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        wanted_files(TINY, files)


def test_one_gguf_file_of_a_repository(hub: FakeHub, environ: Mapping[str, str]) -> None:
    write_gguf(hub.folder, hub.folder / "tiny-Q8.gguf", tokenizer={})
    name = "someone/tiny/tiny-Q8.gguf"
    wanted = HubName.parse(name)
    assert wanted == HubName("someone/tiny", "tiny-Q8.gguf", "main")
    done = pull(wanted, environ)
    assert done.files == ("tiny-Q8.gguf",)
    assert resolve(name, environ).path == done.path
    listed = {model.name: model for model in list_models(environ)}[name]
    assert (listed.family, listed.known, listed.memory) == ("llama", True, None)
    with pytest.raises(CheckpointError, match=r"no file none\.gguf; someone/tiny/tiny-Q8\.gguf"):
        wanted_files(HubName("someone/tiny", "none.gguf", "main"), [path.name for path in hub.folder.iterdir()])


def test_listing_tells_size_family_and_memory(hub: FakeHub, environ: Mapping[str, str]) -> None:
    snapshot = pull(TINY, environ).path
    make_random_checkpoint(hub.folder, memory_trained=False)
    pull(HubName("someone/untrained", None, "main"), environ)
    (hub.folder / "config.json").write_text('{"model_type": "gpt2"}')
    pull(HubName("someone/odd", None, "main"), environ)
    found = {model.name: model for model in list_models(environ)}
    assert found["fam-tiny"].memory == "trained"
    tiny = found["someone/tiny"]
    assert (tiny.family, tiny.known, tiny.memory) == ("llama", True, None)
    assert tiny.num_bytes == sum(path.stat().st_size for path in snapshot.iterdir())
    assert found["someone/untrained"].memory == "untrained"
    assert (found["someone/odd"].family, found["someone/odd"].known) == ("gpt2", False)


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "a/b/../x.gguf", "../a", "a/b@../../x", "a/b@/x", "/a/b", "a/.."])
def test_what_is_no_name_of_the_hub(name: str) -> None:
    assert HubName.parse(name) is None


def test_a_revision(hub: FakeHub, environ: Mapping[str, str]) -> None:
    assert resolve("someone/tiny@v2", environ, fetch=pull).path.name == COMMIT
    assert hub.asked[0] == ("someone/tiny", "v2")
    assert resolve(f"someone/tiny@{COMMIT}", environ).path.name == COMMIT
