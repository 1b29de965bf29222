"""Families of pretrained decoders: what their `config.json` means and what their weights are called."""
