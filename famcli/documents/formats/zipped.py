"""Documents in ZIP files: EPUB and DOCX, and archives that hold a single document. What is in them is read bounded.

XML is parsed as a stream, and entities that a document declares are refused: nobody needs them, and a few lines of them
can stand for gigabytes.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple, cast
from xml.parsers import expat

from famcli.documents.original import Original
from famcli.errors import DocumentError

MAX_PART = 1 << 28
"""Bytes of a part of a document, unpacked."""

_MAX_RATIO = 500  # of unpacked to packed; text is packed to a tenth, tables to a fiftieth
_MAX_ENTRIES = 100_000
_CHUNK = 1 << 16


class Element(NamedTuple):
    """The beginning or the end of an element of XML, or text. name: without its namespace; "" for text."""

    name: str
    attributes: dict[str, str]
    text: str = ""
    is_end: bool = False


class Archive:
    """A ZIP file. Every error of it is a DocumentError that says what to do."""

    def __init__(self, original: Original) -> None:
        self.name = original.name
        with self._errors():
            self._zip = zipfile.ZipFile(original.file())
            self.names = [one.filename for one in self._zip.infolist() if not one.is_dir()]
        if len(self.names) > _MAX_ENTRIES:
            raise DocumentError(f"{self.name} holds {len(self.names):,} files: unpack it, and give the ones to read")

    def close(self) -> None:
        """Close it; the file it was opened from stays open."""
        self._zip.close()

    def open(self, part: str) -> BinaryIO:
        """The bytes of a part, as a stream. Raises DocumentError if there is none, or it is too large."""
        with self._errors():
            info = self._zip.getinfo(part)
            if info.flag_bits & 1:
                raise DocumentError(f"{self.name} is protected by a password: save it without one, and give that")
            if info.file_size > _MAX_RATIO * info.compress_size + (1 << 20):
                raise DocumentError(
                    f"{self.name}: {part} would be {info.file_size:,} bytes out of {info.compress_size:,}, which no "
                    "document is: it is not read"
                )
            return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, _Part(self, self._zip.open(info), part))))

    def read(self, part: str, most: int = 1 << 25) -> bytes:
        with self.open(part) as stream:
            data = stream.read(most + 1)
        if len(data) > most:
            raise DocumentError(
                f"{self.name}: {part} is larger than {most >> 20} MB, which is too much to read at once"
            )
        return data

    def elements(self, part: str) -> Iterator[Element]:
        found = list[Element]()
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True

        def start(name: str, attributes: dict[str, str]) -> None:
            local = {key.rpartition(" ")[2]: value for key, value in attributes.items()}
            found.append(Element(name.rpartition(" ")[2], local))

        def refuse(*_: object) -> None:
            raise DocumentError(f"{self.name}: {part} declares entities of its own, which no document needs: not read")

        parser.StartElementHandler = start
        parser.EndElementHandler = lambda name: found.append(Element(name.rpartition(" ")[2], {}, is_end=True))
        parser.CharacterDataHandler = lambda text: found.append(Element("", {}, text))
        parser.EntityDeclHandler = refuse
        with self.open(part) as stream:
            while True:
                data = stream.read(_CHUNK)
                try:
                    parser.Parse(data, not data)
                except expat.ExpatError as error:
                    raise DocumentError(f"{self.name}: {part} is damaged ({error}): save the document again") from error
                yield from found
                found.clear()
                if not data:
                    return

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except KeyError as error:
            raise DocumentError(f"{self.name} is damaged: a part of it is missing ({error}); save it again") from error
        except NotImplementedError as error:
            raise DocumentError(
                f"{self.name} is packed in an unusual way ({error}): unpack it, and pack it again"
            ) from error
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError) as error:
            if isinstance(error, DocumentError):
                raise
            raise DocumentError(
                f"{self.name} is a damaged ZIP file, or was cut short ({error}): fetch it again"
            ) from error


class _Part(io.RawIOBase):
    """A part's bytes, no more than `MAX_PART`: what the directory says of its size may be a lie."""

    def __init__(self, archive: Archive, stream: object, part: str) -> None:
        self._archive, self._stream, self._part, self._size = archive, cast(BinaryIO, stream), part, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # any writable buffer
        with self._archive._errors():
            data = self._stream.read(len(buffer))
        self._size += len(data)
        if self._size > MAX_PART:
            raise DocumentError(
                f"{self._archive.name}: {self._part} is larger than {MAX_PART >> 20} MB: it is not read"
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()
