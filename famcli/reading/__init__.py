"""The engine: documents through a network block by block, generating, and memory files.

`reader` reads documents and yields what `events` defines; `cursor` is where a reading stands; `engine` reads any run of
tokens and `batch` several side by side; `scoring` measures how expected a text was; `generating` writes; `memory_file`
keeps what was read on disk. Import from these modules: nothing is imported here, so that nothing slow is.
"""
