"""Training: recipes, data, the loop, adapting pretrained checkpoints, and export."""
