"""What `famcli inspect` says of an adapter's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from famcli.checkpoint.jsonfile import shown
from famcli.cli.render import describe_bytes, plural

if TYPE_CHECKING:
    from famcli.checkpoint.adapters.adapter import Adapter


def adapter_facts(adapter: Adapter) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The facts as plain values, and as lines of a name and a text."""
    names = sorted({module.rpartition(".")[2] for module in adapter.updates})
    size = sum(half.num_bytes for update in adapter.updates.values() for half in (update.a, update.b))
    sidecar, named = adapter.sidecar, shown(adapter.base or "")
    weights = f", weights {shown(sidecar.base_weights[:12])}" if sidecar and sidecar.base_weights else ""
    values = {
        "path": str(adapter.folder),
        "base": adapter.base,
        "rank": adapter.rank,
        "alpha": adapter.alpha,
        "targets": names,
        "matrices": len(adapter.updates),
        "num_parameters": adapter.num_parameters,
        "weights_bytes": size,
        "sidecar": sidecar.to_json() if sidecar else None,
    }
    lines = [
        ("adapter", f"{adapter.folder}, LoRA of rank {adapter.rank}, alpha {adapter.alpha:g}"),
        ("made for", (named or "a checkpoint that it does not name") + weights),
        ("updates", f"of {len(adapter.updates):,} matrices: {', '.join(names)}"),
        ("parameters", f"{adapter.num_parameters:,}, {describe_bytes(size)}"),
    ]
    if sidecar is None:
        lines.append(("memory", "none of its own: the checkpoint's fam.json says how to read with it"))
    else:
        fam = sidecar.fam
        kind = "trained" if sidecar.memory_trained else "not trained"
        lines += [
            (
                "reads",
                f"blocks of {plural(fam.block_size, 'token')}, {plural(fam.memory_segments, 'segment')}, "
                f"{plural(fam.fam_length, 'memory row')} ({fam.memory_update})",
            ),
            ("memory", kind if fam.fam_length else "none"),
        ]
    return values, [*lines, ("use", f"--model {named or 'MODEL'} --adapter {adapter.folder}")]
