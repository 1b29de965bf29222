"""How a memory is judged: recall of hidden sentences, and bits per byte by position."""
