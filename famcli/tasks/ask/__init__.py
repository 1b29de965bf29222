"""Questions about a text, answered with passages that are checked against it."""
