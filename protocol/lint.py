"""Private details that must not leave the house inside a bundle (B-20, P-81).

Looked for in every text of the manifest and of the other text members: file
names of pictures, local paths, host names of private networks, e-mail addresses
besides the provider's contact, embedded pictures, and plain digests that the
manifest does not account for (a digest of a training image is a membership
oracle), and long tables of numbers and long codes, which could be pixels, pictures
or latent codes. Safetensors
members hold no text, their reader allows no metadata; pictures, paths and file names
among their values are looked for, and that every tensor is a layer is the packer's rule.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from protocol.canonical import Json
from protocol.card import CARD, model_card
from protocol.errors import problem
from protocol.manifest import MANIFEST, Manifest
from protocol.schema import encode

__all__ = ["lint_members", "lint_texts"]

_PICTURE = r"jpe?g|png|gif|bmp|tiff?|webp|heic|heif|avif|dng|cr2|nef|psd"
_PATTERNS: dict[str, re.Pattern[str]] = {
    "e-mail address": re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "local path": re.compile(
        r"file:/|(?<![\w/:.])~?/(?:home|users|root|mnt|media|tmp|var|data|srv|opt|work|private|volumes|export|scratch)/"
        r"|\b[a-z]:[\\/]|\\\\[\w.-]+\\",
        re.IGNORECASE,
    ),
    "picture file name": re.compile(rf"[\w)-]\.(?:{_PICTURE})\b", re.IGNORECASE),
    "private host name": re.compile(
        r"\b[\w-]+\.(?:local|lan|internal|intranet|home\.arpa|localdomain)\b", re.IGNORECASE
    ),
    "embedded picture": re.compile(
        r"data:image/|iVBORw0KGgo|/9j/[247]|R0lGOD[dl]h?|UklGR|<svg|89504e470d0a1a0a|ffd8ff(?:e[0-9a-f]|db)"
    ),
    "table of numbers": re.compile(r"(?<![\w.])(?:-?\d+(?:\.\d+)?(?:e[+-]?\d+)?[\s,;|\[\]()]+){256}", re.IGNORECASE),
    # Base64 or hexadecimal of anything: 400 characters with letters and digits, or five lines of 60 (a line break may
    # be escaped).
    "long code": re.compile(
        r"(?<![A-Za-z0-9+/_-])(?:(?=[0-9+/_-]*[A-Za-z])(?=[A-Za-z+/_-]*\d)[A-Za-z0-9+/_-]{400}"
        r"|(?:[A-Za-z0-9+/_-]{60,}=*(?:\s|\\[nr])+){5})"
    ),
}
_SIGNATURES: dict[str, re.Pattern[bytes]] = {
    "picture": re.compile(
        rb"\x89PNG\r\n\x1a\n|GIF8[79]a.{4}[\x00-\xff]|RIFF.{4}WEBPVP8|ftyp(?:heic|heix|mif1|avif)|Exif\x00\x00(?:II|MM)"
        # JPEG: a segment of an application, or quantisation tables at once. JPEG 2000: a file, or its stream alone.
        rb"|\xff\xd8\xff[\xe0-\xef].{2}(?:JFIF\x00|Exif\x00|Adobe|ICC_PROFILE\x00)|\xff\xd8\xff\xdb\x00[\x43\x84]\x00"
        rb"|\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51\x00[\x29\x2c\x2f\x32]\x00[\x00-\x02]"
        # TIFF whose directory follows its head, and BMP with one of three heads.
        rb"|II\*\x00\x08\x00\x00\x00|MM\x00\*\x00\x00\x00\x08|BM.{4}\x00{4}.{2}\x00\x00[\x28\x6c\x7c]\x00\x00\x00",
        re.DOTALL,
    ),
    "state of an optimiser or of random numbers": re.compile(
        rb'"[A-Za-z0-9_.]*(?:exp_avg|momentum_buffer|optimi[sz]er|rng_state|generator_state)[A-Za-z0-9_.]*":'
    ),
    "local path": re.compile(
        rb"(?<![\w/:.])/(?:home|users|root|mnt|media|private|volumes|export|scratch)/[\w.-]{2}"
        rb"|\b[a-z]:[\\/]users[\\/]\w",
        re.IGNORECASE,
    ),
    "picture file name": re.compile(rb"[\w-]{6}\.(?:jpe?g|png|tiff|webp|heic|dng)\b", re.IGNORECASE),
}
"""What no member may hold, weights included: first bytes, names in the header of a safetensors file, and texts so
long that numbers do not look like them by chance (below one in a thousand for a gigabyte)."""
_DIGEST = re.compile(r"\b(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{128})\b", re.IGNORECASE)


_TEXT = (".json", ".md", ".txt")
_DIGEST_FIELDS = {
    "alignment_sha256",
    "dataset_commitment",
    "fab_sha256",
    "id",
    "payload_sha256",
    "sha256",
    "source_commit",
    "supersedes",
}


def _stated_digests(value: Json, name: str = "") -> Iterator[str]:
    """Yield the digests that stand in fields made for one."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _stated_digests(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _stated_digests(item, name)
    elif name in _DIGEST_FIELDS:
        yield str(value)


def _find(text: str, known: Collection[str]) -> str | None:
    for kind, pattern in _PATTERNS.items():
        if pattern.search(text):
            return kind
    if any(match not in known for match in _DIGEST.findall(text)):
        return "digest that the manifest does not account for"
    return None


def lint_members(manifest: Manifest, members: Mapping[str, bytes]) -> None:
    """Refuse a bundle that holds a private detail.

    Args:
        manifest: The finished manifest. Its own digests may appear anywhere,
            and so may the provider's contact.
        members: Contents of all other members by name. Texts are read as texts; in all of them, weights
            included, pictures and names of training state are looked for.

    Raises:
        PolicyError: E_LINT, names the member and the kind of detail, but not
            the detail itself.
    """
    known = set(_stated_digests(encode(manifest)))
    contact = manifest.provider.contact
    nameless = replace(manifest, provider=replace(manifest.provider, contact=""))
    texts = {MANIFEST: nameless.to_bytes(), CARD: model_card(nameless)}
    for name, data in members.items():
        if name.endswith(_TEXT):
            texts[name] = data.replace(contact.encode("utf-8"), b"") if contact else data
    for name, data in sorted(members.items()):
        hidden = next((kind for kind, pattern in _SIGNATURES.items() if pattern.search(data)), None)
        if hidden:
            raise problem("E_LINT", member=name, detail=hidden)
    for name, data in sorted(texts.items()):
        kind = _find(data.decode("utf-8", errors="replace"), known)
        if kind:
            raise problem("E_LINT", member=name, detail=kind)


def lint_texts(texts: Mapping[str, str]) -> None:
    """Refuse texts that could not be published, before work is put into what they describe.

    Args:
        texts: What is to be said, by the name of the place where it was given.

    Raises:
        PolicyError: E_LINT, names the place and the kind of detail.
    """
    for name, text in texts.items():
        kind = _find(text, ())
        if kind:
            raise problem("E_LINT", member=name, detail=kind)
