"""A loss of power at every step of a save: what was not flushed is gone, and what is left is the old or the new state.

A recorder notes each fsync, rename and removal of a save, with the content that the fsync made safe. After each of them
the disk is laid out again as a strict file system may leave it: the content of a file is what its last fsync saw, and
nothing if there was none; names are those of the last fsync of their folder, with none, some or all of what changed
since.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from famcli.errors import FamcliError
from tests.faults.children import Figures
from tests.faults.saves import KINDS, NEW, OLD

_SUBSETS = 3


@dataclass(eq=False)
class Node:
    """A file or folder. safe: its content on the disk. names, safe_names: of a folder, as they are and on the disk."""

    is_folder: bool
    safe: bytes = b""
    names: dict[str, Node] = field(default_factory=dict)
    safe_names: dict[str, Node] = field(default_factory=dict)


Change = tuple[tuple[Node, str, "Node | None"], ...]
"""Names that change together: of a folder, to a node or to nothing."""


class Disk:
    """What is below `root`, as the disk has it. With `recording`, `moments` are the states after each step."""

    def __init__(self, root: Path) -> None:
        self.root, self._top = root, Node(True)
        self._pending: list[Change] = []
        self.moments: list[Callable[[Path, random.Random], Iterator[Path]]] = []
        self._see(self._top, root, is_safe=True)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note what is done in the `with`."""
        kept = os.fsync, os.replace, os.rename, os.unlink, os.rmdir
        os.fsync = self._fsync
        os.replace = os.rename = lambda source, target, **more: self._rename(kept[2], source, target)  # type: ignore[assignment]
        try:
            yield
        finally:
            os.fsync, os.replace, os.rename, os.unlink, os.rmdir = kept
        self._look()
        self._note()

    def _fsync(self, handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        self._look()
        node = self._node(path)
        if node is None:
            return
        if node.is_folder:
            node.safe_names = dict(node.names)
            # The other side of a rename into this folder is in the same record of a journal.
            self._pending = [some for some in self._pending if all(folder is not node for folder, _, _ in some)]
        else:
            node.safe = path.read_bytes()
        self._note()

    def _rename(self, rename: Callable[..., None], source: object, target: object) -> None:
        self._look()
        rename(source, target)
        old, new = Path(str(source)), Path(str(target))
        before, after = self._node(old.parent), self._node(new.parent)
        if before is None or after is None:
            return
        node = before.names.pop(old.name)
        after.names[new.name] = node
        self._pending.append(((after, new.name, node), (before, old.name, None)))
        self._note()

    def _look(self) -> None:
        self._see(self._top, self.root, is_safe=False)

    def _see(self, folder: Node, path: Path, is_safe: bool) -> None:
        """Take note of what appeared or went in a folder and below."""
        there = {entry.name: entry for entry in os.scandir(path)}
        for name in set(folder.names) - set(there):
            del folder.names[name]
            self._pending.append(((folder, name, None),))
        for name, entry in there.items():
            node = folder.names.get(name)
            if node is None:
                node = folder.names[name] = Node(entry.is_dir(follow_symlinks=False))
                if is_safe:
                    folder.safe_names[name] = node
                    node.safe = b"" if node.is_folder else Path(entry.path).read_bytes()
                else:
                    self._pending.append(((folder, name, node),))
            if node.is_folder:
                self._see(node, path / name, is_safe)

    def _node(self, path: Path) -> Node | None:
        if not path.is_relative_to(self.root):
            return None
        node: Node | None = self._top
        for part in path.relative_to(self.root).parts:
            node = None if node is None else node.names.get(part)
        return node

    def _note(self) -> None:
        """Keep what may be on the disk now."""
        pending, tree = list(self._pending), _frozen(self._top)

        def states(place: Path, draw: random.Random) -> Iterator[Path]:
            prefixes = [pending[:count] for count in {0, len(pending) // 2, len(pending)}]
            subsets = [[one for one in pending if draw.random() < 0.5] for _ in range(_SUBSETS if pending else 0)]
            for number, done in enumerate(prefixes + subsets):
                root = place / str(number)
                _lay_out(tree, self._top, done, root)
                yield root
                shutil.rmtree(root)

        self.moments.append(states)


Frozen = dict[int, tuple[Node, bytes, dict[str, Node]]]


def _frozen(node: Node) -> Frozen:
    """Every node that can be reached, with its safe content and names."""
    found: Frozen = {}
    rest = [node]
    while rest:
        one = rest.pop()
        if id(one) not in found:
            found[id(one)] = one, one.safe, dict(one.safe_names)
            rest += [*one.names.values(), *one.safe_names.values()]
    return found


def _lay_out(tree: Frozen, top: Node, done: list[Change], root: Path) -> None:
    names = {key: dict(safe_names) for key, (_, _, safe_names) in tree.items()}
    contents = {key: safe for key, (_, safe, _) in tree.items()}
    for change in done:
        for folder, name, node in change:
            if node is None:
                names.setdefault(id(folder), {}).pop(name, None)
            else:
                names.setdefault(id(folder), {})[name] = node
    rest = [(top, root)]
    while rest:
        node, path = rest.pop()
        if node.is_folder:
            path.mkdir()
            rest += [(child, path / name) for name, child in names.get(id(node), {}).items()]
        else:
            path.write_bytes(contents.get(id(node), b""))


def power(size: int, seed: int, folder: Path) -> Figures:
    """`size` saves of all kinds, each with a loss of power after each of its steps."""
    figures, draw = Figures("power"), random.Random(seed)
    names = list(KINDS)
    for number in range(size):
        place, name = folder / f"power-{number}", names[(seed * size + number) % len(names)]
        (place / "disk").mkdir(parents=True)
        (place / "after").mkdir()
        save = KINDS[name](place / "disk", number)
        disk = Disk(save.folder)
        with disk.recording():
            save.write()
        last = len(disk.moments) - 1
        for moment, states in enumerate(disk.moments):
            for root in states(place / "after", draw):
                figures.trials += 1
                try:
                    found = save.state(root)
                    figures.count(found)
                    assert found in {OLD, NEW, *save.halves}, found
                    assert found == NEW or moment < last, "what is reported as saved is gone"
                except (AssertionError, FamcliError, OSError) as error:
                    line = f"{name} {number}, step {moment}: {type(error).__name__}: {error}"
                    figures.failures.append(line[:300])
        figures.count(f"steps of a {name}", len(disk.moments))
        shutil.rmtree(place)
    return figures
