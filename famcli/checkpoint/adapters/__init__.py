"""LoRA adapters in PEFT's layout: read, written, and merged into a checkpoint."""
