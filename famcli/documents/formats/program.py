"""Programs: their comments and documentation strings, by line, and the declarations that these are of; all other
strings, and the rest of the code, stay out.

What a program is, its lines say, not its name: declarations, and lines that end as statements do.
"""

from __future__ import annotations

import ast
import inspect
import re
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Literal

from famcli.documents.converted import Part
from famcli.documents.original import Line, Original
from famcli.documents.source import Location

Family = Literal["python", "slashes", "hashes", "dashes"]
"""How comments are written: Python's, // and /* */ (C, Java, JavaScript, Go, Rust ...), # (shells, Ruby, Perl, R), --
(SQL, Lua, Haskell)."""

_SHEBANG = re.compile(r"#!\s*/\S*\b(?:env\s+(?:-S\s+)?)?(python|bash|sh|zsh|ksh|perl|ruby|node|deno|lua)")
_LINES_TO_TELL = 400
_FEWEST = 4  # declarations and statements
# Declarations, which prose has not, by family.
_DECLARES: dict[Family, re.Pattern[str]] = {
    "python": re.compile(
        r"\s*(?:async\s+)?def \w+\(|\s*class \w+(?:\([^)]*\))?:\s*(?:#.*)?$|from [\w.]+ import [\w(*]"
        r"|import \w[\w.]*(?: as \w+)?(?:, \w[\w.]*)*\s*(?:#.*)?$|\s*@\w[\w.]*(?:\(.*)?$|if __name__ =="
    ),
    "slashes": re.compile(
        r"\s*#\s*(?:include\s*[<\"]|define \w+|ifn?def \w+|pragma )"
        r"|(?:import|using|package|namespace|use|mod)\s[\w.:*{}\s\"/@]+;?\s*$"
        r"|\s*(?:(?:export|default|async|public|private|protected|static|final|pub(?:\(\w+\))?|unsafe|abstract|inline|extern"
        r"|const)\s+){0,6}+(?:function\s*\*?\s*\w*\s*\(|(?:class|interface|struct|enum) \w+[^.]*$|impl\b.*\{|fn \w+"
        r"|func (?:\([^)]*\)\s*)?\w+\(|trait \w+|(?:const|let|var|val)\s+[\w{}\[\], ]+\s*(?::[^=]+)?=)"
        r"|\s*(?:[\w:<>*&\[\]]+\s+){1,6}+\*?\w+\s*\([^;]*\)\s*(?:const\s*)?\{\s*$"
    ),
    "hashes": re.compile(
        r"\s*(?:fi|done|esac)\s*$|.*;\s*(?:then|do)\s*$|\s*(?:function\s+)?\w+\s*\(\)\s*\{|\s*(?:module|require|use|sub|my|library\()\s"
        r"|\s*def \w+[^:]*$|\s*end\s*$|\s*\w+ <- "
    ),
    "dashes": re.compile(
        r"\s*(?:CREATE (?:TABLE|INDEX|VIEW|FUNCTION)|INSERT INTO|SELECT .+ FROM|ALTER TABLE"
        r"|local (?:function )?\w+|function [\w.:]+\(|module [\w.]+|import (?:qualified )?[A-Z]|\w+ ::)",
        re.I,
    ),
}
# What has a name of its own, of these: a function, a class.
_NAMES_SOMETHING = re.compile(
    r"\s*(?!(?:import|using|use|package|require|my|return|from)\b|[#@])(?=.*\w\s*\(|.*\b(?:class|interface|struct|enum|trait)\s)"
)
_STATEMENT = re.compile(
    r".*[;{}]\s*(?://.*)?$|\s*(?:[)\]}]+[,;]?|else:?|try:|return\b.*|pass|break|continue)\s*$|\s*[\w.\[\]\"'$]+\s*(?:[-+*/|&]?=|:=)\s"
    r"|\s*[\w.]+\(.*|\s*(?:if|elif|for|while|with|except|switch|case|foreach)\b.*[:{(]\s*$|\s*[\w.\"']+:?\s.*,\s*$"
)
_COMMENT = re.compile(r"\s*(?://|/\*|\*|#|--|;|\"\"\"|''')")
_SLASHES = re.compile(
    r"""//(?P<line>.*)|/\*(?P<block>.*?)(?P<end>\*/|$)|"(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'|`(?:\\.|[^`\\])*`"""
)
_HASHES = re.compile(r"""(?:^|(?<=\s))\#(?!\{)(?P<line>.*)|"(?:\\.|[^"\\])*"?|'[^']*'""")
_DASHES = re.compile(r"""--(?P<line>.*)|"(?:\\.|[^"\\])*"?|'[^']*'""")
_DOCUMENTED = re.compile(r"(\"\"\"|''').*?(?:\1|\Z)", re.DOTALL)
_COMMENTED = re.compile(r"/\*.*?\*/", re.DOTALL)
_DIRECTIVE = re.compile(r"\.\. [\w-]+::")  # of reStructuredText
_MARKS = re.compile(r"^\s*(?:[/!*#;<-]+(?=\s|$)|[/#]{2,})?\s?")
# Lines of signs, and what is said to tools.
_NOT_SAID = re.compile(r"[\W_]*$|(?:type: ignore|noqa|pragma:|pylint:|mypy:|fmt:|eslint-|ts-(?:ignore|expect))")
_INTERPRETERS: dict[str, Family] = {"python": "python", "node": "slashes", "deno": "slashes", "lua": "dashes"}
_ANY_FAMILY: tuple[Family, ...] = ("python", "slashes", "hashes", "dashes")


def looks_like_program(head: str) -> bool:
    """True for text most of whose lines are code."""
    return _family(head.splitlines()[:_LINES_TO_TELL]) is not None


def read_program(original: Original) -> Iterator[Part]:
    """The comments and documentation strings, each a paragraph."""
    lines = original.lines()
    first = list(islice(lines, _LINES_TO_TELL))
    family = _family([line.text for line in first]) or "slashes"
    rest, has_text = chain(first, lines), False
    comments = _python_comments(rest) if family == "python" else _comments(rest, family)
    for paragraph in _paragraphs(comments):
        yield from paragraph
        yield "\n\n", None
        has_text = True
    if not has_text:
        original.note(
            f"{original.name} is a program without comments or documentation strings; with the encoding as-is it is "
            "read as plain text"
        )


def _family(lines: list[str]) -> Family | None:
    texts = [line for line in lines if line.strip()]
    if not texts:
        return None
    if (shebang := _SHEBANG.match(texts[0])) is not None:
        return _INTERPRETERS.get(shebang[1], "hashes")
    if sum(line.startswith("```") for line in texts) > 1:
        return None  # a page of Markdown, most of which may be code
    # What is said in a program is no code, but does not make it prose.
    texts = [line for line in _without_said("\n".join(lines)).splitlines() if line.strip()]
    if any(map(_DIRECTIVE.match, texts)):
        return None
    code = [line for line in texts if not _COMMENT.match(line) or line.lstrip().startswith(("#include", "#define"))]
    declared: dict[Family, int] = {one: sum(map(bool, map(_DECLARES[one].match, code))) for one in _ANY_FAMILY}
    family = max(_ANY_FAMILY, key=lambda one: declared[one])
    if family == "python" and declared[family] and _is_python("\n".join(lines)):
        return family
    num_code = sum(_STATEMENT.match(line) is not None or _DECLARES[family].match(line) is not None for line in code)
    # A page about a program shows some of it between its paragraphs; a program shows paragraphs in comments.
    is_code = num_code >= _FEWEST and declared[family] >= 2 and 20 * num_code >= 9 * len(code)
    return family if is_code and declared[family] * 60 >= len(code) else None


def _without_said(text: str) -> str:
    """A program without its documentation strings and the comments that have an end."""
    # Up to the last end only: each beginning without one would be searched to the end of the text.
    last = text.rfind("*/") + 2 if "*/" in text else 0
    return _DOCUMENTED.sub("", _COMMENTED.sub("", text[:last]) + text[last:])


def _is_python(text: str) -> bool:
    """True for text that Python takes: what is cut is judged by its lines."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return len(ast.parse(text).body) > 1
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False


_Comment = tuple[int, str, Location]
"""The number of the line, what it says, and where."""


def _comments(lines: Iterable[Line], family: Family) -> Iterator[_Comment]:
    """Comments line by line; a comment that goes on over lines keeps its state between them."""
    pattern = _SLASHES if family == "slashes" else _HASHES if family == "hashes" else _DASHES
    is_open, last = False, 0
    for line in lines:
        text, place = line.text, 0
        if not is_open and last == line.number - 1 and _NAMES_SOMETHING.match(text) and _DECLARES[family].match(text):
            # What is said stands above what it is said of.
            yield line.number, text.partition("{")[0].strip(), line.location
        if line.number == 1 and text.startswith("#!"):
            continue
        if is_open:
            last = line.number
            inside, end, _ = text.partition("*/")
            yield line.number, inside, line.location
            is_open, place = not end, len(inside) + 2
            if is_open:
                continue
        for found in pattern.finditer(text, place):
            parts = found.groupdict()
            said = parts.get("line") if parts.get("line") is not None else parts.get("block")
            if said is not None:
                last = line.number
                yield line.number, said, line.location
            is_open = parts.get("block") is not None and not parts.get("end")


def _python_comments(lines: Iterable[Line]) -> Iterator[_Comment]:
    """Comments and documentation strings of Python, by its own tokenizer."""
    known, texts = dict[int, Line](), iter(lines)

    def read() -> str:
        line = next(texts, None)
        if line is None:
            return ""
        known[line.number] = line
        # Tokens refer to the lines of their own; a statement seldom has more.
        known.pop(line.number - 20_000, None)
        return line.text + "\n"

    before, number, declared = tokenize.NEWLINE, 1, 0
    try:
        for token in tokenize.generate_tokens(read):
            number = token.start[0]
            if token.type == tokenize.COMMENT and not (number == 1 and token.string.startswith("#!")):
                yield number, token.string[1:], known[number].location
            elif token.string in ("def", "class") and token.line.lstrip().startswith(("def ", "class ", "async ")):
                declared = number
            elif token.type == tokenize.STRING and before in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
                if before == tokenize.INDENT and declared in known:
                    # Of what it is said: the whole head, on the line before it.
                    head = " ".join(known[at].text.strip() for at in range(declared, number) if at in known)
                    yield number - 1, head, known[declared].location
                    declared = 0
                for at, text in enumerate(_docstring(token.string), number):
                    yield at, text, known[min(at, token.end[0])].location
                # A comment below belongs to what follows it.
                yield token.end[0], "", known[token.end[0]].location
            if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING):
                before = token.type
    except (tokenize.TokenError, SyntaxError):
        # It is not of this version of Python, or was cut: comments can still be told.
        yield from _comments(chain((known[at] for at in sorted(known) if at >= number), texts), "hashes")


def _docstring(token: str) -> list[str]:
    body = re.sub(r"^\w*(\"\"\"|'''|\"|')|(\"\"\"|'''|\"|')$", "", token)
    return inspect.cleandoc(body).splitlines()


def _paragraphs(comments: Iterator[_Comment]) -> Iterator[list[Part]]:
    """Comments on lines that follow one another belong together; a blank line in one ends a paragraph."""
    open_ones, last = list[Part](), -1
    for number, text, location in comments:
        said = _MARKS.sub("", text).rstrip().removesuffix("*/").rstrip()
        if open_ones and (number > last + 1 or not said):
            yield open_ones
            open_ones = []
        last = number
        if said and not _NOT_SAID.match(said):
            open_ones.append((("\n" if open_ones else "") + said, location))
    if open_ones:
        yield open_ones
