"""What a reader wants from a document: perplexity, summaries, answers, memory files.

Each task is an object with `.events(documents)` (an iterator; stop whenever you like) and `.result()` (what was found
so far, marked partial until the iterator is exhausted). Nothing prints.
"""
