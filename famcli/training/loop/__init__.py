"""The training loop: steps, losses, several processes, checks, and saved runs."""
