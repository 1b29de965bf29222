"""Pages and files of the web: fetched once, bounded, and kept in a folder, so that quotes of them can be checked.

Nothing is fetched from private networks unless that is asked for: an address is looked up once, judged, and connected
to as it was judged, at every redirect too.
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import os
import re
import shutil
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit

from famcli.documents.regular import open_regular
from famcli.documents.writing import atomic_file
from famcli.errors import DocumentError

LIMIT = 1 << 26
"""Bytes of a page or a file that is fetched."""

TIMEOUT = 20.0
"""Seconds to wait for an answer, or for more of it."""

_LONGEST = 180.0  # seconds that a whole file may take
_MAX_REDIRECTS = 5
_CHUNK = 1 << 16
_ADDRESS = "address"  # the file beside a page that says where it is from
_KEPT_SECONDS = 30 * 86_400.0
_FOLDER = re.compile(r"page-[0-9a-f]{16}$")
_LOCATED = (301, 302, 303, 307, 308)


def is_address(path: str) -> bool:
    """True for what begins as the address of a page does."""
    return re.match(r"https?://", path, re.I) is not None


def fetch(
    url: str,
    folder: Path,
    on_redirect: Callable[[str], None] = lambda url: None,
    *,
    allow_private: bool = False,
    limit: int = LIMIT,
) -> Path:
    """Fetch one page or file of at most `limit` bytes; returns where it is kept, below `folder`.

    on_redirect: told each address that the first one leads to. allow_private: addresses of private networks and of this
    machine too.

    Raises DocumentError, with what to do, for whatever goes wrong on the way.
    """
    deadline, here = time.monotonic() + _LONGEST, url
    for _ in range(_MAX_REDIRECTS + 1):
        answer, connection = _ask(here, allow_private)
        try:
            location = answer.headers.get("location")
            if answer.status not in _LOCATED or location is None:
                return _keep(url, here, answer, folder, limit, deadline)
        finally:
            connection.close()
        there = urljoin(here, location.strip())
        if here.lower().startswith("https:") and not there.lower().startswith("https:"):
            raise DocumentError(f"{here} leads to {there}, which is not encrypted: give that address if it is meant")
        on_redirect(there)
        here = there
    raise DocumentError(f"{url} leads on and on, more than {_MAX_REDIRECTS} times: give the last address")


def address_of(path: Path) -> str | None:
    """The address that a file was fetched from; None for other files."""
    if _FOLDER.match(path.parent.name) is None:
        return None
    try:
        with open_regular(path.parent / _ADDRESS) as file:
            return file.read(_CHUNK).decode("utf-8").strip() or None
    except (OSError, ValueError):
        return None


def _ask(url: str, allow_private: bool) -> tuple[http.client.HTTPResponse, http.client.HTTPConnection]:
    parts = _parts(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    address = _checked_address(host, port, allow_private)
    if parts.scheme == "https":
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, port, timeout=TIMEOUT, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    # Connected to as it was judged: another look-up of the name could have another answer.
    connection._create_connection = lambda _, *rest, **more: socket.create_connection((address, port), *rest, **more)  # type: ignore[attr-defined]
    target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    try:
        connection.request("GET", target, headers={"User-Agent": "famcli", "Accept": "*/*"})
        return connection.getresponse(), connection
    except (OSError, http.client.HTTPException, ValueError) as error:
        connection.close()
        raise DocumentError(f"cannot fetch {url}: {_reason(error)}; check the address and the connection") from error


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise DocumentError(f"{url} is no address: {error}") from error
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise DocumentError(f"{url} is no address of a page: http:// and https:// are fetched, and nothing else")
    if parts.username is not None:
        raise DocumentError(
            f"{parts.hostname}: an address with a password in it is not fetched; fetch the file by itself"
        )
    # What is not ASCII is escaped as UTF-8, as browsers do.
    path, query = (re.sub(r"[^\x21-\x7e]", _escaped, one) for one in (parts.path, parts.query))
    return parts._replace(scheme=parts.scheme.lower(), path=path, query=query)


def _escaped(character: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in character[0].encode("utf-8", "replace"))


def _checked_address(host: str, port: int, allow_private: bool) -> str:
    """The first address of a host. Raises DocumentError if it has none, or one that must not be reached."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DocumentError(f"there is no host {host}, or no connection to ask for it ({_reason(error)})") from error
    addresses = [str(one[4][0]).partition("%")[0] for one in found]
    for address in addresses:
        plain = ipaddress.ip_address(address)
        inner = getattr(plain, "ipv4_mapped", None) or getattr(plain, "sixtofour", None) or plain
        if not allow_private and not (plain.is_global and inner.is_global and not inner.is_multicast):
            raise DocumentError(
                f"{host} is {address}, an address of this machine or of a private network, which is not fetched from "
                "unless asked for",
                remedy={"allow_private": ""},
            )
    return addresses[0]


def _keep(url: str, here: str, answer: http.client.HTTPResponse, root: Path, limit: int, deadline: float) -> Path:
    if answer.status != 200:
        raise DocumentError(f"{here} answered {answer.status} {answer.reason}: check the address")
    length = answer.headers.get("content-length") or ""
    if length.isdecimal() and int(length) > limit:
        raise _too_large(here, limit)
    folder = root / f"page-{hashlib.sha256(url.encode('utf-8', 'replace')).hexdigest()[:16]}"
    try:
        _forget_old(root)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = folder / _file_name(here)
        with atomic_file(target, private=True) as beside, beside.open("wb") as file:
            size = 0
            while data := _more(answer, here):
                size += len(data)
                if size > limit:
                    raise _too_large(here, limit)
                if time.monotonic() > deadline:
                    raise DocumentError(
                        f"{here} takes longer than {_LONGEST:g} seconds: fetch it by itself, and give the file"
                    )
                file.write(data)
            if length.isdecimal() and size < int(length):
                raise DocumentError(f"{here} broke off after {size:,} of {int(length):,} bytes: try again")
        with atomic_file(folder / _ADDRESS, private=True) as beside:
            beside.write_text(here + "\n", encoding="utf-8")
    except OSError as error:
        raise DocumentError(f"{url} cannot be kept in {folder}: {_reason(error)}; free some space") from error
    return target


def _more(answer: http.client.HTTPResponse, url: str) -> bytes:
    try:
        return answer.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise DocumentError(f"{url} broke off ({_reason(error)}): try again") from error


def _too_large(url: str, limit: int) -> DocumentError:
    return DocumentError(f"{url} is larger than {limit >> 20} MB: fetch it by itself, and give the file")


def _file_name(url: str) -> str:
    """The last part of an address, as a file may be named."""
    last = unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^\w.-]", "_", last)[-80:].lstrip(".")
    return name if name and name != _ADDRESS else "page"


def _forget_old(folder: Path) -> None:
    """Remove pages that were fetched a month ago."""
    for one in folder.glob("page-*"):
        if _FOLDER.match(one.name) and time.time() - one.stat().st_mtime > _KEPT_SECONDS:
            shutil.rmtree(one, ignore_errors=True)


def _reason(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return os.fspath(reason).splitlines()[0].lower() if isinstance(reason, str) else str(reason)
