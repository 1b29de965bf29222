"""Every module below benchmarks/ and tools/ can be imported: nothing else would notice a name that has moved."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What such a module may need that no test does: peers, and libraries that are only compared with.
_PROGRAM = """
import importlib, json, sys
failed = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("famcli", "benchmarks", "tools", "tests"):
            failed[name] = str(error)
    except BaseException as error:
        failed[name] = f"{type(error).__name__}: {error}"
print(json.dumps(failed))
"""


def test_every_benchmark_and_tool_can_be_imported() -> None:
    files = [path for folder in ("benchmarks", "tools") for path in sorted((ROOT / folder).rglob("*.py"))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith(".__main__")]
    command = [sys.executable, "-c", _PROGRAM, *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout.splitlines()[-1])) == (0, {}), done.stderr
