"""Fetch checkpoints from the Hugging Face hub with the hub's own library (the `hf` extra). No torch.

Only what famcli reads is fetched: weights as safetensors or GGUF, JSON, tokenizers and chat templates. Pickles and code
never are.
"""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from famcli.checkpoint.locate import HubName, cached_path, hub_cache, is_complete
from famcli.errors import CheckpointError
from famcli.tokens.gguf_file import gguf_parts
from famcli.tokens.tokenizer import BYTES_FILE

OFFLINE_VARIABLES = ("FAMCLI_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_WANTED = ("*.json", "*.safetensors", "tokenizer.model", BYTES_FILE, "*.jinja", "README*", "LICENSE*")
_UNWANTED = ("consolidated*", "*.fam.safetensors")  # the same weights in another layout
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_SHOWN = 12


@dataclass(frozen=True)
class Pulled:
    """A checkpoint in the cache. num_bytes: of its files. commit: of the revision. checked: the hub was asked whether
    that commit is the newest."""

    name: str
    path: Path
    files: tuple[str, ...]
    num_bytes: int
    commit: str
    checked: bool = True


def can_fetch() -> bool:
    """True if the `huggingface_hub` package is installed."""
    return find_spec("huggingface_hub") is not None


def is_offline(environ: Mapping[str, str]) -> bool:
    """True if one of the variables that forbid the network is set."""
    return any(environ.get(name, "").strip().lower() in {"1", "true", "yes", "on"} for name in OFFLINE_VARIABLES)


def pull(name: HubName, environ: Mapping[str, str], *, progress: bool = False) -> Pulled:
    """Fetch what `name` means into the hub's cache. Files that are there already are not fetched again.

    When the hub cannot be asked, a complete copy in the cache is returned as it is. progress: the library shows bars on
    stderr. Raises CheckpointError: offline, no such repository or revision, no right to it, nothing in it that famcli
    reads, a broken connection, a full disk.
    """
    full = name.repo if name.file is None else f"{name.repo}/{name.file}"
    here, info = _in_cache(full, name, environ), None
    if here is not None and (is_offline(environ) or not can_fetch()):
        return here
    if is_offline(environ):
        raise CheckpointError(
            f"{full} cannot be fetched in offline mode (the option, or one of {', '.join(OFFLINE_VARIABLES)})"
        )
    try:
        hub: Any = import_module("huggingface_hub")
    except ImportError as error:
        raise CheckpointError(f"fetching {full} needs the `huggingface_hub` package: install famcli[hf]") from error
    cache = hub_cache(environ)
    try:
        utils: Any = import_module("huggingface_hub.utils")
        (utils.enable_progress_bars if progress else utils.disable_progress_bars)()
        info = hub.HfApi().model_info(name.repo, revision=name.revision, files_metadata=True)
        sizes = {each.rfilename: each.size or 0 for each in info.siblings or []}
        files = wanted_files(name, list(sizes))
        hub.snapshot_download(
            name.repo, revision=name.revision, cache_dir=cache, allow_patterns=[glob.escape(file) for file in files]
        )
    except CheckpointError:
        raise
    except Exception as error:
        # Errors of the library, its HTTP client and the system have no common base.
        if here is not None and info is None and not _is_refusal(error):
            return here
        raise CheckpointError(_explained(full, name, error)) from error
    path = cached_path(name, environ)
    if path is None:
        raise CheckpointError(f"{full} was fetched, but is not in the cache {cache}; look at its settings")
    return Pulled(full, path, tuple(files), sum(sizes[file] for file in files), str(info.sha))


def _in_cache(full: str, name: HubName, environ: Mapping[str, str]) -> Pulled | None:
    """The complete copy in the cache, if there is one."""
    path = cached_path(name, environ)
    if path is None or not is_complete(path):
        return None
    files = [path] if path.is_file() else [each for each in sorted(path.iterdir()) if each.is_file()]
    size, commit = sum(each.stat().st_size for each in files), (path.parent if path.is_file() else path).name
    return Pulled(full, path, tuple(each.name for each in files), size, commit, checked=False)


def wanted_files(name: HubName, files: Sequence[str]) -> list[str]:
    """The files of a repository that famcli reads. Raises CheckpointError if there are none."""
    if name.file is not None:
        if name.file not in files:
            raise CheckpointError(f"{name.repo} has no file {name.file}; {_offer(name.repo, files)}")
        return [part.name for part in gguf_parts(Path(name.file))]
    root = [file for file in files if "/" not in file and not _matches(file, _UNWANTED)]
    if "config.json" not in root or not fnmatch.filter(root, "*.safetensors"):
        if fnmatch.filter(files, "*.gguf"):
            raise CheckpointError(f"{name.repo} holds GGUF files; choose one: {_offer(name.repo, files)}")
        if any(_matches(file, _PICKLES) for file in root):
            raise CheckpointError(
                f"{name.repo} has its weights only as pickles, which can run code and are never opened; look for a "
                "revision with safetensors"
            )
        raise CheckpointError(f"{name.repo} holds no checkpoint: it needs config.json and safetensors, or GGUF files")
    return [file for file in root if _matches(file, _WANTED)]


def _offer(repo: str, files: Sequence[str]) -> str:
    names = sorted(file for file in files if file.endswith(".gguf") and "/" not in file)
    listed = ", ".join(f"{repo}/{file}" for file in names[:_SHOWN]) or "it has no GGUF files"
    return listed if len(names) <= _SHOWN else f"{listed} and {len(names) - _SHOWN} more"


def _matches(file: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(file, pattern) for pattern in patterns)


def _is_refusal(error: Exception) -> bool:
    """True if the hub has answered that there is no such thing, or none that this user may see."""
    from huggingface_hub import errors

    return isinstance(error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError)


def _explained(full: str, name: HubName, error: Exception) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"{name.repo} is given only to those who accepted its terms: do so on its page, then `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{name.repo} is no folder, and the hub has none that you may see; check the name, or `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name.repo} has no revision '{name.revision}'; check the name after the @"
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"{full} could not be fetched ({reason[:200]}); check the connection and the disk, and try again"
