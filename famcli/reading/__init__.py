"""The engine: a document through a network block by block, generating, and memory files.

`reader` reads documents and yields what `events` defines; `engine` makes legal calls of any run of tokens; `scoring`
measures how expected a text was; `generate` writes; `memory_file` keeps what was read on disk. Import from these
modules: nothing is imported here, so that nothing slow is.
"""
