"""The benchmarks that a memory is judged by, and the generators of their texts, which training uses too."""
