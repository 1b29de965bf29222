"""What a training run reads: corpora as tokens on disk, generated documents, and lanes."""
