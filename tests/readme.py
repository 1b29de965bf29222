"""The commands in README.md: found, run, and their outputs compared or written anew (`make docs`).

A ```console block holds commands, each after "$ ", and below it the beginning of what it prints; "..." stands for any
rest of a line or of the output. Numbers are not compared: they depend on the machine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
_BLOCK = re.compile(r"^```console\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_MAX_LINES = 17
_MAX_WIDTH = 150


@dataclass(frozen=True)
class Example:
    """A command and what the README says it prints."""

    command: str
    output: str


def examples(text: str) -> list[Example]:
    """All commands, in order: they are run one after the other in one folder."""
    found = []
    for block in _BLOCK.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append(Example(command, output))
    return found


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a shell in a folder that has examples/ would; in float32, which all machines agree on."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAMCLI_")}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "FAMCLI_DTYPE": "float32",
        "FAMCLI_READINGS": str(folder / "readings"),
    }
    # A copy, not a link: a memory file opens only texts below its own folder or the current one.
    (folder / "examples").exists() or shutil.copytree(ROOT / "examples", folder / "examples")
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def agrees(said: str, printed: str) -> bool:
    """Whether the output begins as the README says, numbers aside."""
    pattern = "".join(
        ".*" if part == "..." else re.escape(part) for part in re.split(r"(\.\.\.)", _masked(said.strip()))
    )
    return re.fullmatch(pattern, _masked(printed.strip()), re.DOTALL) is not None


def refreshed(text: str) -> str:
    """The README with the outputs that its commands print now."""
    with TemporaryDirectory() as folder:

        def renew(block: re.Match[str]) -> str:
            parts = []
            for example in examples(block[0]):
                done = run(example.command, Path(folder))
                if done.returncode:
                    raise SystemExit(f"{example.command}\n{done.stderr}")
                parts.append(f"$ {example.command}\n{_shortened(done.stdout)}")
            return f"```console\n{''.join(parts)}```\n"

        return _BLOCK.sub(renew, text)


def _masked(text: str) -> str:
    return re.sub(r"[-+]?\d[\d,.:]*", "#", text)


def _shortened(output: str) -> str:
    lines = [line if len(line) <= _MAX_WIDTH else line[:_MAX_WIDTH] + "..." for line in output.rstrip().splitlines()]
    if len(lines) > _MAX_LINES:
        lines = [*lines[: _MAX_LINES - 1], "..."]
    return "".join(line + "\n" for line in lines)


if __name__ == "__main__":
    README.write_text(refreshed(README.read_text(encoding="utf-8")), encoding="utf-8")
