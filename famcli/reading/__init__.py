"""The engine: documents through a network block by block, generating, and memory files.

`reader` reads documents and yields what `events` defines; `cursor` is the point it has reached; `engine` reads any run
of tokens, or several side by side; `scoring` measures how expected a text was; `generating` writes; `memory_file` saves
and loads what was read, `memory_format` checks such a file without torch, and `append` continues it. Import from these
modules: nothing is imported here, because torch is slow to load.
"""
