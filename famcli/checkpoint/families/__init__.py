"""Families of pretrained decoders: how their `config.json` is read and what their weights are called.

All families run in one network (`famcli.nn`), whose `DecoderConfig` has a switch for each way in which they differ. To
add a family that needs no new switch, edit table.py:

1. Write a function `_myfamily(fields) -> Switches`. It returns the fields of `DecoderConfig` in which the family
   differs from Llama, such as `{"query_key_norm": "head"}`. Sizes and rotary positions are read for you where
   `config.json` names them as Llama's does (`sizes` in shared.py).
   `fields` checks type and range of each key of `config.json`; shared.py has readers for what families share.
2. If its weights are not named as Llama's are, write a map `myfamily_names(name, config)` from a stored tensor's name
   to the parameters in it (`phi3_names` cuts a fused tensor into rows, `mixtral_names` only renames).
3. Add `Family("model_type", _myfamily, myfamily_names, defaults)` to `_ENTRIES`. `defaults` are the values that
   `transformers` assumes for keys that are absent from `config.json`. Its line in `DIFFERENCES` there, which says why
   it is refused, goes.
4. Add a case to tests/nn/families.py: a tiny random checkpoint is then compared with `transformers`, logits and all. A
   word in README.md, where the families are listed.

A family with a new feature first needs a switch in `DecoderConfig`: keyword-only, with a default that means off, so
that fingerprints of older checkpoints stay as they are. The layer in famcli/nn/layers.py gets a branch for it, and
famcli/nn/shapes.py the shapes of parameters that no other family has. What the compiled layer for a few rows knows is
listed there too (`_KNOWN_TO_KERNEL`): without an entry the layer is computed by torch. A new value of a switch that it
knows needs a word in `Layer` (`_is_plain`). GGUF files of the family need an entry in gguf.py's `GGUF_FAMILIES`, and a
case in tests/checkpoint/test_gguf.py.
"""
