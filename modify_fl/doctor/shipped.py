"""Models that come with packages: the face detector, the bases and the ready styles (U-6, M-23)."""

import base64
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackagePath, files
from pathlib import Path

from modify_fl.base.card import HOME, read_card
from modify_fl.doctor.report import Check, Look
from modify_fl.ready import DEMO_KEY, ready_bundles
from protocol.errors import ProtocolError
from protocol.provider import read_provider_key
from protocol.trust import TrustStore
from protocol.verify import verify_bundle

__all__ = ["LOOKS"]

_DETECTOR = "facenet-pytorch"
_NETWORKS = ("onet.pt", "pnet.pt", "rnet.pt")


def _detector() -> Iterator[Check]:
    """Compare the three networks of MTCNN with the list of files of their own package."""
    listed = {file.name: file for file in files(_DETECTOR) or ()}
    bad = [name for name in _NETWORKS if name not in listed or not _as_listed(listed[name])]
    yield Check(
        name="face detector", state="fail" if bad else "ok",
        found=f"changed or missing: {', '.join(bad)}" if bad else f"MTCNN of {_DETECTOR}, three files as listed",
        fix=f"run pip install --force-reinstall --no-deps {_DETECTOR}==2.5.3" if bad else "",
    )  # fmt: skip


def _as_listed(file: PackagePath) -> bool:
    path = Path(str(file.locate()))
    if file.hash is None or not path.is_file():
        return False
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, file.hash.mode).digest()
    return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=") == file.hash.value


def _bases() -> Iterator[Check]:
    """Compare the models that stage 1 starts from with their records."""
    cards = [read_card(path) for path in sorted(HOME.glob("*.json"))]
    if not cards:
        fix = "install the package anew, or train without a base: --init none"
        yield Check(name="base model", state="warn", found="none; styles are trained from nothing", fix=fix)
    for card in cards:
        digest = ""
        if card.weights_file.is_file():
            with card.weights_file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        right = digest == card.sha256
        yield Check(
            name=f"base model {card.name}", state="ok" if right else "fail",
            found=f"sha256 {digest}" if right else f"weights {'changed' if digest else 'missing'}",
            fix="" if right else "install the package anew",
        )  # fmt: skip


def _ready() -> Iterator[Check]:
    """Check the signature of each ready style against the key that came with it; nobody has to accept that key."""
    try:
        trust = TrustStore.of(read_provider_key(DEMO_KEY))
        for path in ready_bundles().values():
            verify_bundle(path, trust=trust, now=datetime.now(UTC))
    except ProtocolError as error:
        yield Check(name="ready styles", state="fail", found=str(error), fix="install the package anew")
    else:
        names = ", ".join(ready_bundles()) or "none"
        yield Check(name="ready styles", state="ok", found=f"{names}; signatures right")


LOOKS: dict[str, Look] = {"face detector": _detector, "base model": _bases, "ready styles": _ready}
"""All of them, by name."""
