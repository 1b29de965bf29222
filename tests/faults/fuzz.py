"""Damaged and hostile input of every format: it is read, or refused in one line; nothing crashes, hangs or grows.

Documents go through `open_source`, which knows by their bytes what they are, so a new format needs a seed here and
nothing else. What is changed is drawn by hypothesis, with a seed; the inputs of each format run in a process of their
own, whose memory may grow by 1 GB.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import re
import resource
import select
import shutil
import signal
import struct
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.errors import StopTest
from safetensors.torch import load_file, save_file

from famcli.checkpoint.adapter import read_adapter
from famcli.checkpoint.chat_template import Message, open_chat_template
from famcli.checkpoint.model import Model
from famcli.checkpoint.open import open_model
from famcli.documents.opening import open_source
from famcli.errors import FamcliError
from famcli.reading.memory_file import load_memory
from famcli.reading.memory_format import inspect_memory_file, metadata
from famcli.reading.reader import Reader
from famcli.tasks.ask.ask import ask
from famcli.tasks.ask.reading_cache import ReadingCache
from famcli.tasks.read import ReadConfig, read
from famcli.training.recipe.recipe import load_recipe
from tests.faults.children import Figures
from tests.faults.saves import FACT, QUESTION
from tests.helpers import make_random_checkpoint
from tests.tasks.support import LARGE, byte_model, prose

HANG_SECONDS = 20
GROWTH_BYTES = 1 << 30
_BATCH = 100

Trial = Callable[[random.Random, Path], object]
"""Makes one input and reads it. Raises FamcliError for what is refused."""

_WORDS = [
    b"\x00",
    b"\xff" * 8,
    b"\x1b]52;c;YQ==\x07",
    b"-1",
    b"1e999",
    b"99999999999999999999",
    b"NaN",
    b"null",
    b"[" * 3000,
]
_WORDS += [
    b"{" * 3000,
    b"<a>" * 2000,
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"../../../etc/passwd",
    b"%s%n",
    b"A" * 5000,
]
_WORDS += [b"<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>]>", b"&b;" * 50, b"&#1114112;"]


def mutated(data: bytes, draw: random.Random) -> bytes:
    """The data with one to eight changes."""
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        place, end = sorted((draw.randrange(len(data) + 1), draw.randrange(len(data) + 1)))
        end = min(end, place + draw.choice((1, 4, 64, 4096)))
        kind = draw.randrange(8)
        if kind == 0:
            data = data[:place]
        elif kind == 1:
            data = data[:place] + data[end:]
        elif kind == 2:
            data = data[:place] + draw.choice(_WORDS) + data[end:]
        elif kind == 3:
            data = data[:end] + data[place:end] * draw.choice((1, 2, 50)) + data[end:]
        elif kind == 4:
            data = data[:place] + random.Random(draw.getrandbits(32)).randbytes(end - place) + data[end:]
        elif kind == 5:
            number = struct.pack("<Q", draw.choice((0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)))
            data = data[:place] + number[: draw.choice((1, 2, 4, 8))] + data[end:]
        elif kind == 6:
            numbers = list(re.finditer(rb"\d+", data[:100_000]))
            if numbers:
                found = draw.choice(numbers)
                new = draw.choice((b"0", b"-1", b"7", b"65536", b"4294967296", b"1e308", b"99999999999999999999"))
                data = data[: found.start()] + new + data[found.end() :]
        elif data:
            place = draw.randrange(len(data))
            data = data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]
    return data[: 1 << 20]


def fuzz(size: int, seed: int, folder: Path) -> Figures:
    """`size` inputs, divided over the formats."""
    figures, trials = Figures("fuzz"), formats(folder)
    for number, (name, trial) in enumerate(trials.items()):
        count = size // len(trials) + (number < size % len(trials))
        for first in range(0, count, _BATCH):
            batch(name, trial, min(_BATCH, count - first), f"{seed} {first}", folder, figures)
    figures.counts["formats"] = len(trials)
    return figures


def batch(name: str, trial: Trial, count: int, seed: str, folder: Path, figures: Figures) -> None:
    """Run `count` trials in a process; one that crashed or hung is a failure, and the rest goes on in another."""
    while count > 0:
        inward, outward = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(inward)
            _work(name, trial, count, seed, folder, outward)
        os.close(outward)
        done, last = 0, time.monotonic()
        with os.fdopen(inward, "rb", buffering=0) as results:
            buffer = b""
            while True:
                if not select.select([results], [], [], 1.0)[0]:
                    if time.monotonic() - last > 60 * HANG_SECONDS:
                        os.kill(pid, signal.SIGKILL)
                    continue
                chunk = results.read(1 << 16)
                if not chunk:
                    break
                last, buffer = time.monotonic(), buffer + chunk
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    result = json.loads(line)
                    done += 1
                    figures.trials += 1
                    figures.count(result["outcome"])
                    figures.counts["slowest, s"] = max(figures.counts.get("slowest, s", 0.0), result["seconds"])
                    if result["outcome"] == "failed":
                        figures.failures.append(f"{name}, seed {seed}, {done}: {result['what']}")
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        count -= done
        if code == 0 and done:
            # What hypothesis gave up on the way is made up for by others.
            seed += " more"
            continue
        figures.trials += 1
        figures.count("crashed")
        figures.failures.append(f"{name}, seed {seed}, {done + 1}: the process ended with {code}")
        count, seed = count - 1, f"{seed} after {done}"


def _work(name: str, trial: Trial, count: int, seed: str, folder: Path, outward: int) -> None:
    """In a process of its own: run trials and write a line for each."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + GROWTH_BYTES, used + GROWTH_BYTES))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    signal.signal(signal.SIGALRM, _waits)
    signal.signal(signal.SIGPROF, _too_long)

    @seeded(f"{name} {seed}")
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms())
    def trials(draw: random.Random) -> None:
        outcome, what, seconds = _tried(trial, draw, folder / f"fuzz-{os.getpid()}")
        os.write(outward, json.dumps({"outcome": outcome, "what": what, "seconds": seconds}).encode() + b"\n")

    code = 1
    try:
        trials()
        code = 0
    finally:
        os._exit(code)


def _tried(trial: Trial, draw: random.Random, place: Path) -> tuple[str, str, float]:
    """What came of one input, what is to be said of it, and the seconds of work."""
    place.mkdir()
    began, outcome, what = time.process_time(), "read", ""
    # Seconds of work, whatever else the machine does; and waiting for what never comes is a hang too.
    signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
    signal.alarm(HANG_SECONDS)
    try:
        trial(draw, place)
    except FamcliError as error:
        outcome = "refused"
        if "\n" in str(error) or len(str(error)) > 2000:
            outcome, what = "failed", f"a message of {len(str(error))} characters"
    except StopTest:
        raise
    except BaseException as error:
        outcome, what = "failed", f"{type(error).__name__}: {error}"[:300]
    finally:
        seconds = round(time.process_time() - began, 2)
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        shutil.rmtree(place, ignore_errors=True)
    return outcome, what, seconds


def _waits(signum: int, frame: FrameType | None) -> None:
    """Some seconds went by: what did nothing in them waits for what never comes, however busy the machine is."""
    global _worked
    before, _worked = _worked, time.process_time()
    if _worked - before < HANG_SECONDS / 100:
        _too_long(signum, frame)
    signal.alarm(HANG_SECONDS)


_worked = 0.0  # seconds of work until it was looked at last


def _too_long(signum: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"longer than {HANG_SECONDS} seconds")


# ---------------------------------------------------------------------------------------------------------- formats


def formats(folder: Path) -> dict[str, Trial]:
    """A trial for each format, by name. Seeds are written below `folder`."""
    model = byte_model(LARGE)
    found: dict[str, Trial] = {name: partial(_document, seed) for name, seed in document_seeds().items()}
    found |= {f"{name}, its parts": partial(_packed, parts) for name, parts in packed_seeds().items()}
    found |= _memory_files(folder, model) | _checkpoints(folder) | _others(folder)
    found["kept reading"] = _kept_reading(folder, model)
    return found


def _document(data: bytes, draw: random.Random, place: Path, suffix: str = "") -> None:
    path = place / f"document{suffix}"
    path.write_bytes(mutated(data, draw))
    with open_source(path) as source:
        first = last = None
        for piece in source.pieces():
            first, last = first or piece, piece
            assert piece.end >= piece.start
            assert len(piece.char_offsets()) == len(piece.text) + 1
        source.digest()
    if first is not None and last is not None:
        with open_source(path, encoding=source.encoding) as again:
            again.text((first.start, first.up_to(first.start + 20).end))
            again.text((last.start, last.end))


def _packed(parts: dict[str, bytes], draw: random.Random, place: Path) -> None:
    """A zip file that is whole, with one of its parts damaged."""
    chosen = draw.choice(list(parts))
    _document(pack(parts | {chosen: mutated(parts[chosen], draw)}), _Unchanging(), place)


class _Unchanging(random.Random):
    """Chooses to leave the data as they are."""

    def choice(self, among: object) -> int:  # type: ignore[override]
        return 0


def pack(parts: dict[str, bytes]) -> bytes:
    """A zip file of these parts."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            # By its first part, as it is, a book is known.
            file.writestr(name, content, zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def document_seeds() -> dict[str, bytes]:
    """A whole document of each kind."""
    text = prose(20)
    html = f"<!DOCTYPE html><html><head><title>T</title></head><body><main><h1>H</h1><p>{text}</p><table><tr><td>1</td>"
    html += "<td>2</td></tr></table><pre>code</pre><ul><li>one<li>two</ul></main></body></html>"
    mail = "From: a@example.com\r\nTo: b@example.com\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\n"
    mail += "Date: Mon, 1 Jan 2024 10:00:00 +0000\r\n"
    mail += 'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain; '
    mail += (
        f"charset=utf-8\r\n\r\n{text}\r\n--b\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    )
    mail += "PHA+SGVsbG88L3A+\r\n--b--\r\n"
    rows = [{"id": n, "name": f"name {n}", "deep": {"list": [n, "x"]}} for n in range(20)]
    subtitles = "".join(f"{n}\n00:00:{n:02},000 --> 00:00:{n:02},900\nLine {n}\n\n" for n in range(1, 20))
    seeds = {
        "text, utf-8": text.encode(),
        "text, latin-1": (text + " caf\u00e9 na\u00efve \u00fcber stra\u00dfe. ").encode("latin-1") * 3,
        "text, utf-16": (text + "\u4e2d\u6587").encode("utf-16"),
        "text, shift-jis": ("\u3053\u308c\u306f\u6587\u3067\u3059\u3002" * 40).encode("shift-jis"),
        "html": html.encode(),
        "mail": mail.encode(),
        "mailbox": (f"From a@example.com Mon Jan  1 10:00:00 2024\n{mail}\n\n" * 2).encode(),
        "csv": ("id,name,note\n" + "".join(f'{n},"name, {n}","a ""quoted"" note"\n' for n in range(30))).encode(),
        "json": json.dumps(rows, indent=1).encode(),
        "jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode(),
        "subtitles": subtitles.encode(),
        "webvtt": ("WEBVTT\n\n" + subtitles.replace(",", ".")).encode(),
        "pdf": _pdf("Hello from a page (of text)."),
        "rtf": rb"{\rtf1\ansi{\fonttbl\f0 Arial;}\f0 Some \b bold\b0  text.\par}",
        "xml": b"<?xml version='1.0'?><feed><entry><title>T</title><content>Some text.</content></entry></feed>",
    }
    seeds |= {kind.__name__: kind.compress(text.encode()) for kind in (gzip, bz2, lzma)}
    return seeds | {name: pack(parts) for name, parts in packed_seeds().items()}


def packed_seeds() -> dict[str, dict[str, bytes]]:
    """Documents that are zip files, as their parts."""
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    kind = "http://schemas.openxmlformats.org/package/2006"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    body = "".join(f"<w:p><w:r><w:t>Paragraph {n} of the document.</w:t></w:r></w:p>" for n in range(9))
    docx = {
        "[Content_Types].xml": f'<Types xmlns="{kind}/content-types"><Default Extension="rels" ContentType='
        '"application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/word/document.xml" '
        'ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{kind}/relationships"><Relationship Id="r1" Type="{office}" '
        'Target="word/document.xml"/></Relationships>',
        "word/document.xml": f'<?xml version="1.0"?><w:document xmlns:w="{word}"><w:body>{body}</w:body></w:document>',
    }
    epub = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
        '<rootfiles><rootfile full-path="b.opf" media-type="application/oebps-package+xml"/></rootfiles></container>',
        "b.opf": '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata/><manifest><item id="a" '
        'href="a.xhtml" media-type="application/xhtml+xml"/></manifest><spine><itemref idref="a"/></spine></package>',
        "a.xhtml": '<html xmlns="http://www.w3.org/1999/xhtml"><body><h1>One</h1><p>It was dark.</p></body></html>',
    }
    names = "".join(f' xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("text", "table"))
    lines = "".join(f"<text:p>Paragraph {n}<text:s text:c='2'/>of the document.</text:p>" for n in range(9))
    cell = "<table:table-cell><text:p>A cell.</text:p></table:table-cell>"
    odt = {
        "mimetype": "application/vnd.oasis.opendocument.text",
        "content.xml": f'<?xml version="1.0"?><body{names}><text:h text:outline-level="2">One</text:h>{lines}'
        f"<table:table><table:table-row>{cell}{cell}</table:table-row></table:table></body>",
    }
    return {
        name: {part: content.encode() for part, content in parts.items()}
        for name, parts in (("docx", docx), ("epub", epub), ("odt", odt))
    }


def _pdf(text: str) -> bytes:
    stream = f"BT /F1 12 Tf 72 720 Td ({text.replace('(', '[').replace(')', ']')}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources 6 0 R >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Font << /F1 5 0 R >> >>",
    ]
    data, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return data + b"xref\n0 7\n0000000000 65535 f \n%strailer\n<< /Size 7 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        table,
        len(data),
    )


def _memory_files(folder: Path, model: Model) -> dict[str, Trial]:
    text, memory = folder / "seed.txt", folder / "seed.fam"
    text.write_text(prose(20))
    read(model, [text], ReadConfig(save=memory))
    data, tensors = memory.read_bytes(), load_file(memory)
    info = inspect_memory_file(memory).dumps()

    def damaged(draw: random.Random, place: Path) -> None:
        (place / "x.fam").write_bytes(mutated(data, draw))
        load_memory(place / "x.fam", model)

    def sealed(draw: random.Random, place: Path) -> None:
        """A description that was changed by somebody who can compute a checksum."""
        changed = mutated(info.encode(), draw).decode("utf-8", "replace")
        save_file(tensors, place / "x.fam", metadata(changed, tensors))
        Reader(model, resume=load_memory(place / "x.fam", model)).finish()

    return {"memory file": damaged, "memory file, sealed": sealed}


def _checkpoints(folder: Path) -> dict[str, Trial]:
    checkpoint = make_random_checkpoint(folder / "fuzzed")
    shipped = Path(__file__).parents[2] / "models" / "fam-tiny" / "tokenizer.model"
    (checkpoint / "chat_template.jinja").write_text(
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}\n{% endfor %}"
    )
    seeds = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    more = {"tokenizer.model": shipped.read_bytes(), "tokenizer.json": _tokenizer_json()}

    def trial(name: str, draw: random.Random, place: Path) -> None:
        for other, content in seeds.items():
            if name not in more or not other.startswith("tokenizer"):
                (place / other).write_bytes(content)
        (place / name).write_bytes(mutated((seeds | more)[name], draw))
        model = open_model(place)
        model.tokenizer.encode("A few words, 12 of them: aaaaaaaaaaaaaaaaaaaaaaaa!\n" * 4)
        template = open_chat_template(place, model.tokenizer)
        if template is not None:
            template.encode([Message("user", "Who?")])

    return {name: partial(trial, name) for name in [*seeds, *more] if not name.endswith("bytes")}


def _tokenizer_json() -> bytes:
    import tokenizers
    from tokenizers import normalizers, pre_tokenizers, trainers

    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(" ", "\u2581")])
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(r"\w+|\s+|[^\w\s]+"), "isolated"),
            pre_tokenizers.ByteLevel(use_regex=False),
        ]
    )
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    made.train_from_iterator([prose(5)], trainer)
    return str(made.to_str()).encode()


def _others(folder: Path) -> dict[str, Trial]:
    recipe = (Path(__file__).parents[2] / "benchmarks" / "recipes" / "toy.toml").read_bytes()
    adapter = json.dumps(
        {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "base_model_name_or_path": "x"}
    ).encode()

    def recipes(draw: random.Random, place: Path) -> None:
        (place / "x.toml").write_bytes(mutated(recipe, draw))
        load_recipe(place / "x.toml", [])

    def adapters(draw: random.Random, place: Path) -> None:
        (place / "adapter_config.json").write_bytes(mutated(adapter, draw))
        (place / "adapter_model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
        read_adapter(place)

    return {"recipe": recipes, "adapter": adapters}


def _kept_reading(folder: Path, model: Model) -> Trial:
    """A damaged kept reading never costs the answer, nor changes it."""
    text, seed = folder / "kept.txt", ReadingCache(folder / "seed-readings")
    text.write_text(prose(8) + FACT)
    answers = ask(model, QUESTION, [text], cache=seed).answers
    (entry,) = seed.entries()

    def trial(draw: random.Random, place: Path) -> None:
        shutil.copytree(seed.folder, place / "readings")
        chosen = draw.choice(sorted((place / "readings" / entry.key).iterdir()))
        chosen.write_bytes(mutated(chosen.read_bytes(), draw))
        result = ask(model, QUESTION, [text], cache=ReadingCache(place / "readings"))
        assert result.answers == answers, "another answer"
        assert result.cached or len(result.warnings) == 1, result.warnings

    return trial
