"""Files to networks and back: find, open, check, enable, inspect and save checkpoints."""
