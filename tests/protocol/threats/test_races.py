"""Files replaced or changed while they are verified (steps 1, 11, 14); kills and full disks are in test_faults."""

from dataclasses import replace
from pathlib import Path

import pytest
from attackkit import snapshot
from bundlekit import NOW, OTHER, OTHER_KEY, STUDIO, STUDIO_KEY, open_trusted, style_manifest, unpack, write_style

from protocol import steps
from protocol.errors import DigestMismatchError, ProtocolError
from protocol.revocation import self_revocation
from protocol.trust import TrustStore
from protocol.verify import open_bundle, verify_bundle


def test_file_replaced_while_it_is_verified(style_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Another, equally valid bundle takes the name between two steps: the descriptor does not move.
    other = tmp_path / "other.mdfy"
    write_style(other, manifest=style_manifest(OTHER), key=OTHER_KEY, provider=OTHER)
    real = steps.read_manifest

    def swap(*arguments: object) -> object:
        other.replace(style_path)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(steps, "read_manifest", swap)
    with open_trusted(style_path) as bundle:
        assert bundle.manifest.provider.name == "Studio"
        assert bundle.read("manifest.json") == bundle.manifest.to_bytes()


def test_file_changed_in_place_while_it_is_verified(
    style_path: Path, store: TrustStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same file, other bytes, after the manifest was read and before the weights are.
    real = steps.read_manifest

    def change(*arguments: object) -> object:
        found = real(*arguments)  # type: ignore[arg-type]
        size = style_path.stat().st_size
        with style_path.open("r+b") as stream:
            stream.write(b"\xff" * size)
        return found

    monkeypatch.setattr(steps, "read_manifest", change)
    trusted = snapshot(tmp_path / "trust")
    with pytest.raises(DigestMismatchError):
        verify_bundle(style_path, trust=store, now=NOW)
    assert snapshot(tmp_path / "trust") == trusted


def test_file_changed_after_it_was_verified(style_path: Path, style_bytes: bytes) -> None:
    with open_trusted(style_path) as bundle:
        style_path.write_bytes(b"\xff" * style_path.stat().st_size)
        for name, data in unpack(style_bytes).items():
            if name in bundle.members:
                assert bundle.read(name) == data


def test_key_revoked_between_verification_and_use(store: TrustStore, style_path: Path, tmp_path: Path) -> None:
    with open_bundle(style_path, trust=store, now=NOW) as bundle:
        store.update(self_revocation(STUDIO_KEY, STUDIO, reason="stolen", issued=NOW).signed, now=NOW)
        before = snapshot(tmp_path)
        with pytest.raises(ProtocolError) as caught:
            bundle.record_use()
    assert caught.value.step == 14
    assert caught.value.exit_code not in {0, 1}
    assert snapshot(tmp_path) == before


def test_newer_release_used_between_verification_and_use(store: TrustStore, style_path: Path, tmp_path: Path) -> None:
    manifest = style_manifest()
    later = tmp_path / "later.mdfy"
    write_style(later, manifest=replace(manifest, bundle=replace(manifest.bundle, sequence=2)))
    with open_bundle(style_path, trust=store, now=NOW) as bundle:
        with open_bundle(later, trust=store, now=NOW) as newer:
            newer.record_use()
        before = snapshot(tmp_path)
        with pytest.raises(ProtocolError) as caught:
            bundle.record_use()
    assert caught.value.code == "E_ROLLBACK"
    assert snapshot(tmp_path) == before
