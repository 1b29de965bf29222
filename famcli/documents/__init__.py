"""Sources: documents of any kind as text with places, in constant memory; and the one way that files are written."""

from famcli.documents.opening import hash_prefix, open_source, text_digest
from famcli.documents.source import Location, Piece, Source

__all__ = ["Location", "Piece", "Source", "hash_prefix", "open_source", "text_digest"]
