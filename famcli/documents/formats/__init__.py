"""The kinds of documents that are turned into text, each told by its content and read in constant memory.

To add a format:

1. Write a module here with a function of the kind `FormatReader` (famcli/documents/converted.py). It yields parts of
   text with their `Location` in the original, and raises DocumentError if the document is damaged. The same bytes must
   give the same text every time. What is left out of the text goes to `Original.note`. A page ends with a form feed.
2. Let `tell_format` in telling.py recognise its first bytes, or `read_zip` there its members if it is a ZIP file.
3. A new kind of place, beside page, time and row, goes into `LocationKind` in famcli/documents/source.py.
4. A library that only this format needs goes into the extra `docs` of pyproject.toml; the error without it names
   the extra.
"""

from importlib import metadata

# Rises when a format gives another text for the same file.
_CONVERSION = 2


def conversion() -> str:
    """Which text is made of a file: what was read by another one is read again."""
    try:
        return f"{_CONVERSION}, trafilatura {metadata.version('trafilatura')}"
    except metadata.PackageNotFoundError:
        return str(_CONVERSION)
