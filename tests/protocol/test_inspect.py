"""Looking into a bundle without trusting anybody."""

from pathlib import Path

import pytest
from bundlekit import STUDIO, forge, open_trusted, pack

from protocol.container import SIGNATURE
from protocol.errors import VerificationError
from protocol.verify import inspect_bundle


def test_inspection_trusts_nobody(style_path: Path) -> None:
    seen = inspect_bundle(style_path)
    assert seen.manifest.bundle.name == "paintings"
    assert seen.claimed_fingerprint == STUDIO.fingerprint
    with open_trusted(style_path) as bundle:
        assert seen.payload_digest == bundle.payload_digest
    assert seen.members[0].name == "manifest.json"
    assert not hasattr(seen, "read")  # nothing to load weights with


def test_inspection_of_an_unsigned_file(style_path: Path) -> None:
    forge(style_path, lambda members: members.pop(SIGNATURE) and None, sign=False)
    assert inspect_bundle(style_path).payload_digest is None


def test_inspection_needs_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "x.mdfy"
    path.write_bytes(pack({"a.txt": b""}))
    with pytest.raises(VerificationError, match="missing"):
        inspect_bundle(path)
