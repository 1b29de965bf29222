"""Train where the corpora are not: all that a recipe reads, tokenized, in files small enough to carry.

    python -m tools.bundle pack RECIPE FOLDER [--set KEY=VALUE]... [--base FILE] [--part-megabytes 45]
    python -m tools.bundle unpack FOLDER CACHE
    python -m tools.bundle train FOLDER RECIPE RUN [--set KEY=VALUE]... [--part-megabytes 16]

On the other machine `famcli train RECIPE --set data.cache=CACHE` finds its tokens, questions and tokenizer there, and
asks for no corpus. The bundle is one tar file, compressed and cut into parts; the standard library is all it needs.

Of a recipe that adapts a checkpoint it has the texts in turns, the adapter to start from and the checkpoint too (with
--base the GGUF file that it was made from, which is smaller and is made a folder there). `train` unpacks into
RUN/cache, trains in RUN/run, and cuts what was exported into parts in RUN/results, which `unpack` puts together where
they are carried to. Where it was stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from famcli.checkpoint.convert import save_unpacked
from famcli.documents.writing import put_in_place
from famcli.errors import FamcliError, RecipeError
from famcli.training.data.corpus import EncodingGuessed, OnProgress, PackProgress
from famcli.training.data.objectives import open_data
from famcli.training.loop.validation import open_heldout
from famcli.training.recipe.recipe import Recipe, base_folder, load_recipe
from famcli.training.recipe.sections import TURNS

CACHE_NAME = "cache"
# Below the cache: files of texts in turns, the checkpoint that is adapted, the adapter to start from.
_TEXTS, _BASE, _START, _GGUF = "texts", "base", "start", "base.gguf"
_PART = re.compile(r"tokens-(\d{5})-of-(\d{5})\.part")


def pack_bundle(
    recipe: Recipe,
    folder: Path,
    part_bytes: int,
    on_progress: OnProgress = lambda progress: None,
    base: Path | None = None,
) -> list[Path]:
    """Tokenize what `recipe` reads into `folder/cache`, and write it as parts of at most `part_bytes` into `folder`.

    base: the GGUF file that the checkpoint to adapt was made from. Older parts there are removed. Returns the parts.
    Raises RecipeError and the like for data that do not fit.
    """
    cache = folder / CACHE_NAME
    cache.mkdir(parents=True, exist_ok=True)
    data = open_data(recipe, cache, on_progress)
    if recipe.checks.heldout is not None:
        open_heldout(recipe.checks.heldout, data.tokenizer, cache, on_progress)
    entries = {entry.name: entry for entry in sorted(cache.iterdir())}
    if recipe.adapt is not None:
        turns = [one.path for one in recipe.objectives if one.kind == TURNS and one.path is not None]
        turns += [recipe.checks.turns] if recipe.checks.turns else []
        entries |= {f"{_TEXTS}/{path.name}": path for path in turns}
        entries |= {_START: Path(recipe.adapt.start)} if recipe.adapt.start else {}
        entries |= {_GGUF: base} if base else {_BASE: base_folder(recipe.adapt.model, recipe.adapt.cache)}
    return _write_parts(entries, folder, part_bytes)


def _write_parts(entries: Mapping[str, Path], folder: Path, part_bytes: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for old in _parts(folder):
        old.unlink()
    writer = _PartWriter(folder, part_bytes)
    with tarfile.open(fileobj=cast(IO[bytes], writer), mode="w|bz2", dereference=True) as tar:
        for name, entry in entries.items():
            tar.add(entry, arcname=name)
    return writer.finish()


def settings_of(cache: Path) -> list[str]:
    """What a recipe must be told where a bundle was unpacked into `cache`."""
    there = {"data.folder": _TEXTS, "adapt.model": _BASE, "adapt.start": _START}
    found = {key: cache / name for key, name in there.items() if (cache / name).exists()}
    return [f"{key}={json.dumps(str(path.resolve()))}" for key, path in {"data.cache": cache, **found}.items()]


def unpack_bundle(folder: Path, cache: Path) -> None:
    """Put what the parts in `folder` hold into `cache`. Raises RecipeError when one is missing or damaged."""
    parts = _parts(folder)
    if not parts:
        raise RecipeError(f"{folder}: no part of a bundle is there; give the folder that `pack` wrote")
    wanted = _numbers(parts[0])[1]
    missing = set(range(1, wanted + 1)) - {_numbers(part)[0] for part in parts}
    if missing or any(_numbers(part)[1] != wanted for part in parts):
        raise RecipeError(f"{folder}: has {len(parts)} parts, a bundle of {wanted} needs 1 to {wanted}; carry them all")
    cache.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=cache) as made:
            with tarfile.open(fileobj=cast(IO[bytes], _PartReader(parts)), mode="r|bz2") as tar:
                tar.extractall(made, filter="data")
            gguf = Path(made, _GGUF)
            if gguf.exists():
                save_unpacked(gguf, Path(made, _BASE))
                gguf.unlink()
            for entry in Path(made).iterdir():
                put_in_place(entry, cache / entry.name)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise RecipeError(f"{folder}: a part is damaged ({error}), or the disk is full; carry them again") from error


class _PartWriter:
    """A file to write to, cut into numbered files of at most `part_bytes`."""

    def __init__(self, folder: Path, part_bytes: int) -> None:
        self._folder, self._part_bytes = folder, part_bytes
        self._made: list[Path] = []
        self._left = 0

    def write(self, content: bytes) -> int:
        rest = memoryview(content)
        while rest:
            if not self._left:
                self._made.append(self._folder / f".part-{len(self._made) + 1:05}")
                self._made[-1].unlink(missing_ok=True)
                self._left = self._part_bytes
            with self._made[-1].open("ab") as file:
                written = file.write(rest[: self._left])
            self._left -= written
            rest = rest[written:]
        return len(content)

    def finish(self) -> list[Path]:
        """Give the parts their names, which say how many there are."""
        count = len(self._made)
        names = [self._folder / f"tokens-{number:05}-of-{count:05}.part" for number in range(1, count + 1)]
        return [part.rename(name) for part, name in zip(self._made, names, strict=True)]


class _PartReader:
    """The parts as one file to read."""

    def __init__(self, parts: list[Path]) -> None:
        self._chunks = self._read(parts)
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            self._rest += chunk
        content, self._rest = self._rest[:size], self._rest[size:]
        return content

    @staticmethod
    def _read(parts: list[Path]) -> Iterator[bytes]:
        for part in parts:
            with part.open("rb") as file:
                while chunk := file.read(1 << 20):
                    yield chunk


def _parts(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("tokens-*.part") if _PART.fullmatch(path.name))


def _numbers(part: Path) -> tuple[int, int]:
    """Of a part: which it is, and of how many."""
    match = _PART.fullmatch(part.name)
    assert match is not None
    return int(match[1]), int(match[2])


def _pack(options: argparse.Namespace) -> None:
    def show(progress: PackProgress | EncodingGuessed) -> None:
        if isinstance(progress, EncodingGuessed):
            print(
                f"{progress.corpus}: files read as {progress.encodings}, a guess: {progress.num_files}", file=sys.stderr
            )
            return
        print(f"{progress.corpus}: {progress.done:,} of {progress.total:,} characters", file=sys.stderr)

    recipe = load_recipe(options.recipe, options.settings)
    _tell(pack_bundle(recipe, options.folder, int(options.part_megabytes * 1e6), show, options.base))


def _tell(parts: Sequence[Path]) -> None:
    for part in parts:
        print(f"{part}: {part.stat().st_size / 1e6:.1f} MB")


def _unpack(options: argparse.Namespace) -> None:
    unpack_bundle(options.folder, options.cache)


def _train(options: argparse.Namespace) -> None:
    cache, run = options.run_folder / CACHE_NAME, options.run_folder / "run"
    if not cache.exists():
        unpack_bundle(options.folder, cache)
    settings = [part for one in (*settings_of(cache), *options.settings) for part in ("--set", one)]
    subprocess.run(
        [sys.executable, "-m", "famcli", "train", str(options.recipe), "--run", str(run), *settings], check=True
    )
    if (run / "export").exists():
        made = {"export": run / "export"}
        _tell(_write_parts(made, options.run_folder / "results", int(options.part_megabytes * 1e6)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    pack = commands.add_parser("pack", help="tokenize what a recipe reads, and cut it into parts")
    pack.add_argument("recipe", type=Path)
    pack.add_argument("folder", type=Path)
    pack.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    pack.add_argument("--part-megabytes", type=float, default=45.0)
    pack.add_argument("--base", type=Path, help="the GGUF file that the checkpoint to adapt was made from")
    pack.set_defaults(run=_pack)
    unpack = commands.add_parser("unpack", help="put the parts into a cache folder")
    unpack.add_argument("folder", type=Path)
    unpack.add_argument("cache", type=Path)
    unpack.set_defaults(run=_unpack)
    train = commands.add_parser("train", help="unpack parts, train on what they hold, and cut the result into parts")
    train.add_argument("folder", type=Path)
    train.add_argument("recipe", type=Path)
    train.add_argument("run_folder", type=Path, metavar="run")
    train.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    train.add_argument("--part-megabytes", type=float, default=16.0)
    train.set_defaults(run=_train)
    options = parser.parse_args()
    try:
        options.run(options)
    except subprocess.CalledProcessError as error:
        return error.returncode  # it has said why
    except FamcliError as error:
        print(f"famcli: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
