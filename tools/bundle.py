"""Train where the corpora are not: all that a recipe reads, tokenized, in files small enough to carry.

    python -m tools.bundle pack RECIPE FOLDER [--set KEY=VALUE]... [--part-megabytes 45]
    python -m tools.bundle unpack FOLDER CACHE

On the other machine `famcli train RECIPE --set data.cache=CACHE` finds its tokens, questions and tokenizer there, and
asks for no corpus. The bundle is one tar file, compressed and cut into parts; the standard library is all it needs.
"""

from __future__ import annotations

import argparse
import re
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from famcli.documents.writing import put_in_place
from famcli.errors import FamcliError, RecipeError
from famcli.training.data.corpus import EncodingGuessed, OnProgress, PackProgress
from famcli.training.data.objectives import open_data
from famcli.training.loop.validation import open_heldout
from famcli.training.recipe.recipe import Recipe, load_recipe

CACHE_NAME = "cache"
_PART = re.compile(r"tokens-(\d{5})-of-(\d{5})\.part")


def pack_bundle(
    recipe: Recipe,
    folder: Path,
    part_bytes: int,
    on_progress: OnProgress = lambda progress: None,
) -> list[Path]:
    """Tokenize what `recipe` reads into `folder/cache`, and write it as parts of at most `part_bytes` into `folder`.

    Older parts there are removed. Returns the parts. Raises RecipeError and the like for data that do not fit.
    """
    cache = folder / CACHE_NAME
    data = open_data(recipe, cache, on_progress)
    if recipe.checks.heldout is not None:
        open_heldout(recipe.checks.heldout, data.tokenizer, cache, on_progress)
    for old in _parts(folder):
        old.unlink()
    writer = _PartWriter(folder, part_bytes)
    with tarfile.open(fileobj=cast(IO[bytes], writer), mode="w|bz2") as tar:
        for entry in sorted(cache.iterdir()):
            tar.add(entry, arcname=entry.name)
    return writer.finish()


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
    for part in pack_bundle(recipe, options.folder, int(options.part_megabytes * 1e6), show):
        print(f"{part}: {part.stat().st_size / 1e6:.1f} MB")


def _unpack(options: argparse.Namespace) -> None:
    unpack_bundle(options.folder, options.cache)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    pack = commands.add_parser("pack", help="tokenize what a recipe reads, and cut it into parts")
    pack.add_argument("recipe", type=Path)
    pack.add_argument("folder", type=Path)
    pack.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    pack.add_argument("--part-megabytes", type=float, default=45.0)
    pack.set_defaults(run=_pack)
    unpack = commands.add_parser("unpack", help="put the parts into a cache folder")
    unpack.add_argument("folder", type=Path)
    unpack.add_argument("cache", type=Path)
    unpack.set_defaults(run=_unpack)
    options = parser.parse_args()
    try:
        options.run(options)
    except FamcliError as error:
        print(f"famcli: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
