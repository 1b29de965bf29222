"""Recipes: TOML files that describe a training run."""
