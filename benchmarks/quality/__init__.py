"""How good `ask` and `summarize` are beside their peers."""
