"""The writer: complete, deterministic, and unable to publish what the verifier refuses."""

import io
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
from bundlekit import (
    ABS_MAX,
    CLIENT,
    CLIENT_KEY,
    ENCODER,
    MEMBERS,
    NOW,
    OTHER,
    OTHER_KEY,
    STUDIO,
    STUDIO_KEY,
    adapter_manifest,
    open_trusted,
    provider_key,
    style_manifest,
    unpack,
    weights,
    write_style,
)

from protocol import publish
from protocol.encryption import Identity, decrypt_stream, encrypt_stream, generate_identity, is_age
from protocol.errors import MalformedBundleError, PolicyError, ProtocolError, StorageError, TensorError
from protocol.manifest import Usage
from protocol.trust import TrustStore
from protocol.verify import verify_bundle

SECRET, RECIPIENT = generate_identity()
READER = Identity(recipient=RECIPIENT, secret=lambda: SECRET)


def test_equal_input_gives_equal_bytes(tmp_path: Path, style_bytes: bytes) -> None:
    # B-6, B-10: nothing in the file depends on when or where it was written.
    path = tmp_path / "again.mdfy"
    write_style(path, members=dict(reversed(MEMBERS.items())))
    assert path.read_bytes() == style_bytes


def test_result_verifies_and_digest_is_its_identity(tmp_path: Path) -> None:
    path = tmp_path / "style.mdfy"
    digest = write_style(path)
    with open_trusted(path) as bundle:
        assert bundle.payload_digest == digest
        assert {name: bundle.read(name) for name in MEMBERS} == MEMBERS


def test_tables_are_filled_from_the_members(style_path: Path) -> None:
    with open_trusted(style_path) as bundle:
        manifest = bundle.manifest
    assert [file.file for file in manifest.model.weights] == sorted(MEMBERS)
    assert manifest.model.weights[0].tensors["head.weight"].shape == (2, 3)
    assert manifest.model.n_parameters == 2 * 3 + 4 + 1 * 8
    roles = {entry.path: entry.role for entry in manifest.files}
    assert roles == {
        "manifest.json": "manifest",
        "model-card.md": "card",
        "weights/encoder.safetensors": "weights",
        "weights/generator.safetensors": "weights",
    }


def test_card_is_generated(style_bytes: bytes) -> None:
    card = unpack(style_bytes)["model-card.md"].decode()
    assert card.startswith("---\n")
    assert "without differential privacy" in card
    assert "not available" in card  # M-43: a missing figure is never 0


def test_existing_file_stays_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "style.mdfy"
    path.write_bytes(b"mine")
    with pytest.raises(StorageError) as caught:
        write_style(path)
    assert "--overwrite" in caught.value.fix
    assert path.read_bytes() == b"mine"
    write_style(path, overwrite=True)
    assert path.read_bytes() != b"mine"
    assert list(tmp_path.iterdir()) == [path]  # no temporary file is left


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"provider": OTHER}, "E_PROVIDER_MISMATCH"),
        ({"provider": OTHER, "key": OTHER_KEY}, "E_PROVIDER_MISMATCH"),  # manifest names the studio
        ({"provider": provider_key(roles=("adapter",))}, "E_KEY_ROLE"),
        ({"members": {**MEMBERS, "model-card.md": b"mine"}}, "E_MEMBER_NAME"),
        ({"members": {**MEMBERS, "../x.json": b"{}"}}, "E_MEMBER_NAME"),
        ({"members": {**MEMBERS, "face.png": b""}}, "E_MEMBER_TYPE"),
        ({"abs_max": {}}, "E_TENSOR_VALUE"),
        ({"abs_max": {**ABS_MAX, ENCODER: float("nan")}}, "E_JSON"),
        ({"members": {**MEMBERS, ENCODER: weights()[:-1]}}, "E_TENSOR_HEADER"),
        ({"manifest": replace(style_manifest(), usage=Usage(audience=()))}, "E_AUDIENCE"),  # addressed to nobody
        ({"recipients": ("age1mistyped",)}, "E_KEYFILE"),
        ({"recipients": (RECIPIENT, "ssh-ed25519 AAAA")}, "E_KEYFILE"),
    ],
)
def test_nothing_appears_when_anything_is_wrong(tmp_path: Path, changes: dict[str, object], code: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        write_style(tmp_path / "style.mdfy", **changes)
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_key_outside_its_life_cannot_publish(tmp_path: Path) -> None:
    manifest = style_manifest()
    late = replace(manifest.bundle, created=STUDIO.expires.replace(year=2029))
    with pytest.raises(PolicyError) as caught:
        write_style(tmp_path / "style.mdfy", manifest=replace(manifest, bundle=late))
    assert caught.value.code == "E_KEY_EXPIRED"


def test_reports_are_listed_as_such(tmp_path: Path) -> None:
    path = tmp_path / "style.mdfy"
    write_style(path, members={**MEMBERS, "report.json": b"{}", "report.md": b"# ok\n", "notes.txt": b"ok\n"})
    with open_trusted(path) as bundle:
        kinds = {entry.path: (entry.role, entry.media_type) for entry in bundle.manifest.files}
    assert kinds["report.json"] == ("report", "application/json")
    assert kinds["report.md"] == ("report", "text/markdown")
    assert kinds["notes.txt"] == ("report", "text/plain")


def test_bad_manifest_field_is_named(tmp_path: Path) -> None:
    manifest = style_manifest()
    bad = replace(manifest, bundle=replace(manifest.bundle, id="not a uuid"))
    with pytest.raises(MalformedBundleError, match=r"bundle\.id"):
        write_style(tmp_path / "style.mdfy", manifest=bad)


def test_trainable_names_must_exist(tmp_path: Path) -> None:
    manifest = style_manifest()
    bad = replace(manifest, model=replace(manifest.model, trainable=("nowhere",)))
    with pytest.raises(TensorError):
        write_style(tmp_path / "style.mdfy", manifest=bad, key=STUDIO_KEY)


def test_result_is_encrypted_after_it_was_signed(tmp_path: Path, style_bytes: bytes) -> None:
    # B-27: what the recipient decrypts is the very file that anyone else would have got.
    path = tmp_path / "style.mdfy"
    write_style(path, recipients=(f" {RECIPIENT}\n", RECIPIENT))
    assert is_age(path.read_bytes())
    plain = io.BytesIO()
    with path.open("rb") as stream:
        decrypt_stream(stream, plain, READER)
    assert plain.getvalue() == style_bytes
    assert list(tmp_path.iterdir()) == [path]


def test_plain_text_is_private_while_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "style.mdfy"
    seen = []

    def look(reader: BinaryIO, writer: BinaryIO, recipients: Sequence[str]) -> None:
        seen.append((Path(reader.name).name, stat.S_IMODE(Path(reader.name).stat().st_mode), path.exists()))
        encrypt_stream(reader, writer, recipients)

    monkeypatch.setattr(publish, "encrypt_stream", look)
    write_style(path, recipients=(RECIPIENT,))
    [(name, mode, named)] = seen
    assert (mode, named) == (0o600, False)
    assert name.startswith(".")


def test_addressed_bundle_with_terms_can_be_published(tmp_path: Path) -> None:
    # Its writer is not among the audience, and has agreed to nothing.
    path = tmp_path / "style.mdfy"
    usage = Usage(audience=(RECIPIENT,), requires_acknowledgement=True)
    digest = write_style(path, manifest=replace(style_manifest(), usage=usage), recipients=(RECIPIENT,))
    trust = TrustStore.of(STUDIO)
    trust.acknowledge(digest)
    assert verify_bundle(path, trust=trust, now=NOW, identity=READER).payload_digest == digest


def test_local_weights_have_no_recipients(tmp_path: Path, style_path: Path) -> None:
    with open_trusted(style_path) as style:
        manifest = adapter_manifest(style)
    with pytest.raises(PolicyError) as caught:
        write_style(tmp_path / "x.mdfa", manifest=manifest, key=CLIENT_KEY, provider=CLIENT, recipients=(RECIPIENT,))
    assert caught.value.code == "E_LOCAL_ONLY"
    assert not (tmp_path / "x.mdfa").exists()


def test_written_file_is_what_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A disk that changes a byte on its way is found before the file has its name.
    real = publish.write_container

    def damage(stream: BinaryIO, *arguments: object, **more: object) -> None:
        real(stream, *arguments, **more)  # type: ignore[arg-type]
        stream.seek(-30, io.SEEK_CUR)
        place = stream.tell()
        stream.seek(place // 2)
        byte = stream.read(1)[0]
        stream.seek(place // 2)
        stream.write(bytes([byte ^ 1]))

    monkeypatch.setattr(publish, "write_container", damage)
    with pytest.raises(ProtocolError):
        write_style(tmp_path / "style.mdfy")
    assert list(tmp_path.iterdir()) == []
