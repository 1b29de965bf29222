"""Folders of every family with strange values in their config.json: refused in one line, or read like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from famcli.checkpoint.families.pretrained import read_config
from famcli.checkpoint.weights import check_visible, checked_weights
from famcli.errors import CheckpointError
from famcli.nn import DecoderConfig
from tests.helpers import read_json, write_json
from tests.nn.families import CASES, WHOLE, ours, tokens_of
from tests.nn.test_streams import STREAMED

STRANGE = (None, True, -1, 0, 3, 1e308, float("nan"), "\n", [], [1, "x"], {"rope_type": "yarn", "factor": 1e300})
HARMLESS = {"architectures", "torch_dtype", "dtype", "transformers_version", "use_cache", "initializer_range"}


@pytest.mark.parametrize("case", STREAMED)
@torch.no_grad()
def test_every_key_with_every_strange_value(case: str, tmp_path: Path) -> None:
    CASES[case].oracle().save_pretrained(tmp_path)
    path, tokens = tmp_path / "config.json", tokens_of(1, 20)
    original, read, refusals = read_json(path), list[DecoderConfig](), set[str]()
    for key in [*original, "rope_scaling", "rope_theta", "partial_rotary_factor", "layer_types"]:
        for value in STRANGE if key not in HARMLESS else ():
            write_json(path, original | {key: value})
            try:
                config = read_config(tmp_path)
                checked_weights(tmp_path, config)
                check_visible(config, WHOLE, tmp_path)
            except CheckpointError as error:
                refusals.add(str(error))
                continue
            if config.decoder not in read:  # what passes the checks is read with, once for each meaning
                read.append(config.decoder)
                network = ours(tmp_path)
                hidden, _ = network.read(tokens[:, :16], network.start())
                assert hidden.shape == (1, 16, config.decoder.hidden_size)
    assert len(read) > 1
    assert len(refusals) > len(STRANGE)
    assert not any("\n" in refusal for refusal in refusals)
