"""Measures of the code as a place to work in: `python -m tools.house [--frames] [FOLDER]`.

Sizes, comments, imports that run up or in circles, names that mean two things, and (with --frames) how many Python
frames lie between a command and a matrix product. docs/decisions.md keeps the figures.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

FLOORS = (
    ("errors", "interrupts", "plain"),
    ("nn",),
    ("tokens",),
    ("documents",),
    ("text",),
    ("checkpoint",),
    ("reading",),
    ("tasks",),
    ("synthetic",),
    ("evaluation",),
    ("training",),
    ("cli",),
)
"""Folders of famcli/, the lowest first: each imports only from those before it."""

FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
KERNELS = ("mm", "bmm", "addmm", "linear", "matmul", "scaled_dot_product_attention", "_linear_pointwise")

BEFORE_THE_COMMAND = ("main", "invoke", "guarded", "expanded")
"""Functions that every command is called through."""


class Module:
    """One file: its dotted name, its lines and its syntax tree."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path = path
        self.name = ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
        text = path.read_text(encoding="utf-8")
        self.lines = [line.strip() for line in text.splitlines() if line.strip()]
        self.tree = ast.parse(text)

    @property
    def floor(self) -> str:
        """The folder of the package that it lies in, or its own name."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""

    def imports(self, known: set[str]) -> set[str]:
        """Modules of the package that it imports when it runs; what only type checkers read does not count."""
        found = set[str]()
        for node in _running(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
        return (found & known) - {self.name}


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from _running(node)


def read_modules(root: Path) -> list[Module]:
    """Every file of a package."""
    return [Module(path, root) for path in sorted(root.rglob("*.py"))]


def size_rows(modules: list[Module]) -> list[tuple[str, str]]:
    """Files, lines, classes, functions and comments."""
    lines = [len(module.lines) for module in modules]
    comments = sum(line.startswith("#") for module in modules for line in module.lines)
    nodes = [node for module in modules for node in ast.walk(module.tree)]
    functions = sorted(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    over = [module.name for module in modules if len(module.lines) > 400]
    under = [module.name for module in modules if len(module.lines) < 40 and module.path.name != "__init__.py"]
    ninth = functions[int(0.9 * len(functions))]
    return [
        ("files", str(len(modules))),
        ("non-blank lines", f"{sum(lines):,}"),
        ("classes", str(sum(isinstance(node, ast.ClassDef) for node in nodes))),
        ("functions: median / ninth in ten / longest", f"{statistics.median(functions)} / {ninth} / {functions[-1]}"),
        ("own-line comments", f"{comments} ({100 * comments / sum(lines):.1f} %)"),
        ("files over 400 lines", ", ".join(over) or "none"),
        ("files under 40 lines", ", ".join(under) or "none"),
    ]


def import_rows(modules: list[Module]) -> list[tuple[str, str]]:
    """Circles, arrows up the staircase, and file names on two floors."""
    known = {module.name for module in modules}
    graph = {module.name: module.imports(known) for module in modules}
    height = {folder: number for number, folders in enumerate(FLOORS) for folder in folders}
    floors = {module.name: height.get(module.floor) for module in modules}
    up = [
        f"{name} -> {other}"
        for name, others in graph.items()
        for other in others
        if floors[name] is not None and floors[other] is not None and floors[other] > floors[name]  # type: ignore[operator]
    ]
    places = defaultdict(set)
    for module in modules:
        if module.path.stem not in ("__init__", "__main__"):
            places[module.path.stem].add(module.floor)
    twice = sorted(f"{stem} ({', '.join(sorted(found))})" for stem, found in places.items() if len(found) > 1)
    return [
        ("import circles", "; ".join(" = ".join(sorted(circle)) for circle in circles(graph)) or "none"),
        ("imports up", "; ".join(up) or "none"),
        ("file names on two floors", "; ".join(twice) or "none"),
    ]


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules that import one another (strongly connected components, Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            group = set[str]()
            while not group or name not in group:
                group.add(stack.pop())
            if len(group) > 1:
                found.append(group)

    for name in graph:
        if name not in index:
            visit(name)
    return found


def contract_rows(modules: list[Module]) -> list[tuple[str, str]]:
    """Who lists FamConfig's fields, names flags in errors, or looks behind the network's contract."""
    fields = _fields_of(modules, "FamConfig")
    listing = {field: [module.name for module in modules if _lists(module, field)] for field in fields}
    most = max(listing, key=lambda field: len(listing[field]), default="")
    flags = [
        f"{module.name}:{node.lineno}"
        for module in modules
        if module.floor != "cli"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Raise) and FLAG.search(_strings(node))
    ]
    behind = [
        f"{module.name}:{node.lineno}"
        for module in modules
        if module.floor != "nn"
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.Attribute) and node.attr == "layers" and "state" in ast.dump(node.value).lower())
        or (isinstance(node, ast.ImportFrom) and node.module == "famcli.nn.decoder")
    ]
    return [
        ("files that list one field of FamConfig, at most", f"{len(listing.get(most, []))} ({most})"),
        ("flags named in errors outside cli/", ", ".join(flags) or "none"),
        ("looks behind the network's contract", ", ".join(behind) or "none"),
    ]


def _fields_of(modules: list[Module], name: str) -> list[str]:
    for module in modules:
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                named = [each.target for each in node.body if isinstance(each, ast.AnnAssign)]
                return [target.id for target in named if isinstance(target, ast.Name) and target.id != "_"]
    return []


def _lists(module: Module, field: str) -> bool:
    """Whether a file spells the field as a key, a keyword or an annotated name; reading `fam.field` is not listing."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.keyword) and node.arg == field:
            return True
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == field:
            return True
        if isinstance(node, ast.Constant) and node.value == field:
            return True
    return False


def _strings(node: ast.AST) -> str:
    return " ".join(
        each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)
    )


# ------------------------------------------------------------------------------------------------ frames


def frame_rows(book: Path) -> list[tuple[str, str]]:
    """Python frames of famcli from a command to a matrix product, on the checkpoint that ships."""
    with_question = ("ask", "Who is Gregory?", "--file", str(book), "--readings-limit", "0")
    return [
        (f"frames from `famcli {words[0]}` to a kernel: reading / at most", _frames(words))
        for words in (("ppl", str(book)), with_question)
    ]


def _frames(words: tuple[str, ...]) -> str:
    """The deepest stack while a document is read, and the deepest of all (start, scoring, answering). Counted from the
    command's own function; torch's frames do not count."""
    from famcli.cli.main import app

    reading, all_of_them = [0], [0]

    def watch(frame: FrameType, event: str, called: Any) -> None:
        if event != "c_call" or getattr(called, "__name__", "") not in KERNELS:
            return
        names = list[str]()
        each: FrameType | None = frame
        while each is not None:
            if "/famcli/" in each.f_code.co_filename and each.f_code.co_name not in BEFORE_THE_COMMAND:
                names.append(each.f_code.co_qualname)
            each = each.f_back
        all_of_them.append(len(names))
        if "Reader.read" in names:
            reading.append(len(names))

    sys.setprofile(watch)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            app([*words], prog_name="famcli")
    finally:
        sys.setprofile(None)
    return f"{max(reading)} / {max(all_of_them)}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parents[1] / "famcli")
    parser.add_argument("--frames", action="store_true", help="run ppl and ask on a short text and count frames")
    arguments = parser.parse_args()
    modules = read_modules(arguments.folder.resolve())
    rows = size_rows(modules) + import_rows(modules) + contract_rows(modules)
    if arguments.frames:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            book = Path(folder) / "text.txt"
            source = Path(__file__).parents[1] / "examples" / "the-man-who-was-thursday.txt"
            book.write_text(source.read_text(encoding="utf-8")[:4000], encoding="utf-8")
            rows += frame_rows(book)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


if __name__ == "__main__":
    main()
