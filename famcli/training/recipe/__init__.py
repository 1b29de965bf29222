"""Recipes: what a training run is asked for, as TOML tables into frozen dataclasses."""
