"""Bytes to text with places, in constant memory."""

from famcli.documents.document import Document, hash_prefix, open_document
from famcli.documents.lines import LineCounter
from famcli.documents.piece import Piece
from famcli.documents.places import quote

__all__ = ["Document", "LineCounter", "Piece", "hash_prefix", "open_document", "quote"]
