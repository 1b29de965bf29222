"""Text to token ids and back, as streams, with spans of source bytes."""

from famcli.tokens.bytes import ByteTokenizer
from famcli.tokens.stream import StreamDecoder, StreamEncoder, TokenRun, encode_text
from famcli.tokens.tokenizer import Tokenizer, open_tokenizer

__all__ = [
    "ByteTokenizer",
    "StreamDecoder",
    "StreamEncoder",
    "TokenRun",
    "Tokenizer",
    "encode_text",
    "open_tokenizer",
]
