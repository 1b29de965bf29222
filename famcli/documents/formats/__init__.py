"""The kinds of documents that are turned into text, each told by its content and read in constant memory.

To add a format:

1. Write a module here with a function of the kind `FormatReader` (famcli/documents/converted.py). It yields parts of
   text with their `Location` in the original, and raises DocumentError if the document is damaged. The same bytes must
   give the same text every time. What is left out of the text goes to `Original.note`. A page ends with a form feed.
2. Let telling.py find it: what is text in itself by an entry in `_TEXTS` (tried in that order, and read as it is with
   `--encoding`), other bytes by a branch in `tell_format`, a ZIP file by its members in `read_zip`, whose readers get
   the opened archive too. What a pipe may begin with stands in `_MAY_BEGIN`. What was refused so far is no longer:
   `_MAGIC` and `refuse_known_binaries` in famcli/documents/encodings.py, `_OFFICE` in telling.py, README's limits.
3. Where a file that could be read before gives another text now, raise `_CONVERSION` below: kept readings are then made
   anew. The versions of the libraries that choose the text count by themselves.
4. Tests: an example in tests/documents, damaged and cut in tests/documents/test_hostile.py (`WHOLE`), constant memory
   in benchmarks/formats_flat.py. A row in docs/formats.md, a word in README.md.
5. A new kind of place, beside page, time and row, goes into `LocationKind` and `Location.label` in
   famcli/documents/source.py, and into docs/schemas; text/passages.py says what parts passages, as pages do.
6. A library that only this format needs goes into the extra `docs` of pyproject.toml; the error without it names
   the extra.
"""

from contextlib import suppress
from importlib import metadata

# Rises when a format gives another text for the same file.
_CONVERSION = 3
# They choose the text; what famcli has without an extra changes with famcli.
_LIBRARIES = ("trafilatura", "pypdfium2")


def conversion() -> str:
    """The version of the conversion of files to text: what was read with another one is read again."""
    parts = [str(_CONVERSION)]
    for name in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            parts.append(f"{name} {metadata.version(name)}")
    return ", ".join(parts)
