"""Where code comes from: `make lint` compares the pinned versions with their hashes, and asks for known weaknesses.

    python -m tools.supply            compare constraints.txt with requirements.lock, then run pip-audit
    python -m tools.supply --renew    write requirements.lock anew, from what pip would install (asks the index)

pip-audit needs a network. Without one nothing is audited, which is said and is no failure.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONSTRAINTS, LOCK = ROOT / "constraints.txt", ROOT / "requirements.lock"
_HEAD = """\
# Every package of constraints.txt with the sha256 of its file for Linux on x86-64 with Python 3.11; made by
# python -m tools.supply --renew. Use: pip install --require-hashes --no-deps -r requirements.lock
"""
_SECONDS = 120
_NO_NETWORK = re.compile("Connection|timed out|Temporary failure|ServiceError|Max retries|SSLError", re.IGNORECASE)


def pinned(path: Path) -> dict[str, str]:
    """The versions in a file of requirements, by name in its normal form."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s\\]+)", path.read_text(), re.MULTILINE)
    # Of torch there are builds for one kind of machine each: 2.13.0+cpu.
    return {re.sub(r"[-_.]+", "-", name).lower(): version.split("+")[0] for name, version in found}


def differences() -> list[str]:
    """What the two files do not agree on, and packages without a hash."""
    wanted, locked = pinned(CONSTRAINTS), pinned(LOCK)
    names = sorted(wanted.keys() | locked.keys())
    found = [
        f"{name}: {wanted.get(name)} and {locked.get(name)}" for name in names if wanted.get(name) != locked.get(name)
    ]
    hashes = len(re.findall(r"--hash=sha256:[0-9a-f]{64}", LOCK.read_text()))
    return found + ([] if hashes >= len(locked) else [f"{len(locked) - hashes} packages have no hash"])


def renew() -> None:
    """Write requirements.lock: pip says which file it would install of each package, and what its sha256 is."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet"]
        subprocess.run([*command, "--report", report.name, "-r", str(CONSTRAINTS)], check=True)
        LOCK.write_text(locked_lines(json.loads(Path(report.name).read_text())))


def locked_lines(report: dict[str, list[dict[str, dict[str, dict[str, dict[str, str]]]]]]) -> str:
    """pip's report as lines of requirements with hashes."""
    lines = []
    for one in report["install"]:
        name, version = str(one["metadata"]["name"]), str(one["metadata"]["version"])
        lines.append(f"{name}=={version} --hash=sha256:{one['download_info']['archive_info']['hashes']['sha256']}\n")
    return _HEAD + "".join(sorted(lines, key=str.lower))


def audit() -> int:
    """Run pip-audit over the locked packages. Returns its exit code, 0 where it could not ask."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(LOCK), "--disable-pip", "--require-hashes", "--no-deps"]
    try:
        done = subprocess.run(
            [*command, "--progress-spinner", "off", "--timeout", "10"], capture_output=True, text=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        print("supply: not audited, the database of advisories did not answer in time", file=sys.stderr)
        return 0
    if done.returncode and _NO_NETWORK.search(done.stderr):
        print("supply: not audited, the database of advisories cannot be reached", file=sys.stderr)
        return 0
    if done.returncode and "No module named pip_audit" in done.stderr:
        print("supply: not audited, pip-audit is not installed", file=sys.stderr)
        return 0
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
    return done.returncode


def main() -> int:
    """Check, or renew."""
    if sys.argv[1:] == ["--renew"]:
        renew()
        return 0
    if found := differences():
        print("supply: constraints.txt and requirements.lock differ: " + "; ".join(found), file=sys.stderr)
        return 1
    return audit()


if __name__ == "__main__":
    sys.exit(main())
