"""Fingerprints: by what a memory file, a draft or an adapter knows the checkpoint that it was made with. No torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from io import RawIOBase

from famcli.checkpoint.folder import shown
from famcli.checkpoint.weights import SCALE_SUFFIX, StoredTensor
from famcli.errors import CheckpointError
from famcli.nn.config import DecoderConfig, FamConfig, later_switches

# Up to this size the weights are hashed whole; above it three samples of each tensor are, since hashing gigabytes would
# take seconds of every start. Training changes all of a tensor, so samples tell checkpoints apart.
_WHOLE_HASH_BYTES = 128 << 20
_SAMPLE_BYTES = 1 << 16
_READ_AT_ONCE = 1 << 20
# Switches of ablations that ended. Their names stay in the fingerprint, or no older memory file would fit its model.
_ENDED = dict.fromkeys(("first_update_residual", "stop_segment_gradient", "prompt_with_first_block"), False)


@dataclass(frozen=True)
class Fingerprints:
    """Three sha256 in hex: of the weights as stored, of the shape and the way of reading, of the tokenizer.

    A memory file fits a model when all three agree.
    """

    weights: str
    config: str
    tokenizer: str


def weights_fingerprint(stored: Mapping[str, StoredTensor]) -> str:
    """sha256 of the weights as they are stored: names, types, shapes and values, in whatever files.

    Up to 128 MiB every byte counts. Above that, three samples of 64 KiB from each tensor count: its beginning, middle
    and end.
    """
    stored = {
        **stored,
        **{name + SCALE_SUFFIX: tensor.scale for name, tensor in stored.items() if tensor.scale is not None},
    }
    whole = sum(tensor.num_bytes for tensor in stored.values()) <= _WHOLE_HASH_BYTES
    parts: dict[str, bytes] = {}
    for path in {tensor.file for tensor in stored.values()}:
        own = {name: tensor for name, tensor in stored.items() if tensor.file == path}
        try:
            with path.open("rb", buffering=0) as file:
                # Otherwise the system also reads what is between the samples.
                if not whole and hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                parts |= {name: _tensor_digest(file, tensor, whole) for name, tensor in own.items()}
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read ({shown(error)}); fetch it again") from error
    digest = hashlib.sha256(b"whole" if whole else b"sampled")
    for name, tensor in sorted(stored.items()):
        digest.update(f"{name} torch.{tensor.dtype} {tensor.shape} ".encode() + parts[name])
    return digest.hexdigest()


def _tensor_digest(file: RawIOBase, tensor: StoredTensor, whole: bool) -> bytes:
    start, size, digest = tensor.start, tensor.size, hashlib.sha256()
    pieces = [(start, size)]
    if not whole and size > 3 * _SAMPLE_BYTES:
        pieces = [(start + place, _SAMPLE_BYTES) for place in (0, (size - _SAMPLE_BYTES) // 2, size - _SAMPLE_BYTES)]
    for place, left in pieces:
        file.seek(place)
        while left:
            read = file.read(min(left, _READ_AT_ONCE))
            if not read:
                raise CheckpointError(f"{tensor.file} ends within a tensor; fetch it again")
            digest.update(read)
            left -= len(read)
    return digest.digest()


def config_fingerprint(config: DecoderConfig, fam: FamConfig) -> str:
    """sha256 of all numbers that decide what a state means, as canonical JSON."""
    values = {"fam": fam.to_json() | _ENDED}
    # Switches at their defaults are left out, so that adding one changes no older fingerprint.
    resting = {each.name for each in fields(config) if each.kw_only} - set(later_switches(config))
    values["decoder"] = {key: value for key, value in asdict(config).items() if key not in resting}
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
