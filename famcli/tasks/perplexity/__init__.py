"""How expected a text is: perplexity, bits per byte, next-token accuracy, and alerts."""
