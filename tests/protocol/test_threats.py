"""One test per row of the table of threats (SPEC.md, section 10), as far as it is built.

Each attack must end with an error that has an exit code of its own, with
nothing new in the folder and the trust store as it was. Later: retired and revoked keys, rollback,
equivocation, withdrawn bundles, recipients. Not here but where torch is: NaN and huge weights.
"""

import errno
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

import pytest
from bundlekit import (
    EXPIRES,
    NOW,
    OTHER,
    OTHER_KEY,
    STUDIO,
    STUDIO_KEY,
    edit_json,
    forge,
    open_trusted,
    provider_key,
    resign,
    safetensors,
    style_manifest,
    unpack,
    write_style,
)
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384

from protocol import verify
from protocol.container import SIGNATURE
from protocol.dsse import Envelope, pae
from protocol.encryption import AGE_MAGIC
from protocol.errors import DigestMismatchError, ProtocolError, StorageError
from protocol.signing import load_private_key
from protocol.statement import PAYLOAD_TYPE, SignatureRecord
from protocol.trust import TrustStore
from protocol.verify import open_bundle


@pytest.fixture
def store(tmp_path: Path) -> TrustStore:
    trust = TrustStore(tmp_path / "trust")
    trust.add(STUDIO)
    return trust


Snapshot = dict[str, bytes]


def snapshot(folder: Path) -> Snapshot:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def refused(tmp_path: Path, store: TrustStore) -> Callable[..., str]:
    """Open a file that must be refused; returns the code."""

    def attempt(data: bytes, *, now: object = NOW) -> str:
        path = tmp_path / "attack.mdfy"
        path.write_bytes(data)
        before = snapshot(tmp_path)
        with pytest.raises(ProtocolError) as caught:
            open_bundle(path, trust=store, now=now)  # type: ignore[arg-type]
        assert caught.value.exit_code != 0
        assert caught.value.step is not None
        assert snapshot(tmp_path) == before
        return caught.value.code

    return attempt


def foreign_zip(*entries: tuple[str, bytes], compression: int = zipfile.ZIP_STORED, mode: int = 0o100644) -> bytes:
    """Return an archive as an attacker's own tool writes it, canonical wherever it can be."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in entries:
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr, info.compress_type = 3, mode << 16, compression
            archive.writestr(info, data)
    return stream.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.json",
        "/etc/evil.json",
        "c:\\evil.json",
        "c:evil.json",
        "con.json",
        "\u202enosj.json",
        "m\u0430nifest.json",
    ],
)
def test_names_that_escape_or_deceive(refused: Callable[..., str], name: str) -> None:
    assert refused(foreign_zip((name, b"{}"))) == "E_MEMBER_NAME"


def hide(data: bytes) -> bytes:
    """Put data between the members and the directory, and correct the end record."""
    directory = data.index(b"PK\x01\x02")
    end = bytearray(data[-22:])
    end[16:20] = (directory + 6).to_bytes(4, "little")
    return data[:directory] + b"hidden" + data[directory:-22] + bytes(end)


def overlap(data: bytes) -> bytes:
    """Let a second directory entry point at the first member, as overlap bombs do."""
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    return data[: second + 42] + bytes(4) + data[second + 46 :]


ARCHIVES: dict[str, Callable[[bytes], bytes]] = {
    "deflate bomb": lambda _: foreign_zip(("manifest.json", bytes(1 << 20)), compression=zipfile.ZIP_DEFLATED),
    "overlap bomb": overlap,
    "concatenated": lambda good: good + good,
    "prefixed": lambda good: b"#!/bin/sh\n" + good,
    "hidden data": hide,
    "trailing data": lambda good: good + b"\x00",
    "archive comment": lambda good: good[:-2] + b"\x01\x00!",
    "symlink": lambda _: foreign_zip(("manifest.json", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777),
    "executable": lambda _: foreign_zip(("manifest.json", b"{}"), mode=0o100755),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_that_hide_something(refused: Callable[..., str], style_bytes: bytes, name: str) -> None:
    assert refused(ARCHIVES[name](style_bytes)) in {"E_CONTAINER", "E_TRUNCATED", "E_FORMAT"}


def test_duplicate_member(refused: Callable[..., str]) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = foreign_zip(("manifest.json", b"{}"), ("manifest.json", b"[]"))
    assert refused(data) == "E_CONTAINER"


@pytest.mark.parametrize("name", ["weights.pkl", "weights.pt", "setup.py", "preview.png", "run"])
def test_pickles_code_and_pictures(refused: Callable[..., str], name: str) -> None:
    assert refused(foreign_zip((name, b"x"))) == "E_MEMBER_TYPE"


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda members: members.update({"extra.json": b"{}"}), "E_UNSIGNED_MEMBER"),
        (lambda members: members.pop("model-card.md"), "E_MISSING_MEMBER"),
        (lambda members: members.update({"model-card.md": b"free for all"}), "E_DIGEST"),
    ],
)
def test_extra_missing_or_altered_member(
    refused: Callable[..., str], style_path: Path, edit: Callable[[dict[str, bytes]], None], code: str
) -> None:
    assert refused(forge(style_path, edit, sign=False).read_bytes()) == code


def double_signature(members: dict[str, bytes]) -> None:
    value = json.loads(members[SIGNATURE])
    value["dsseEnvelope"]["signatures"] *= 2
    members[SIGNATURE] = json.dumps(value).encode()


def old_predicate(members: dict[str, bytes]) -> None:
    record = SignatureRecord.from_bytes(members[SIGNATURE])
    payload = record.envelope.payload.replace(b"signature/v1.0", b"Digests/v0.1")
    envelope = Envelope.signed(STUDIO_KEY, PAYLOAD_TYPE, payload)
    members[SIGNATURE] = SignatureRecord(hint=record.hint, envelope=envelope).to_bytes()


def foreign_payload(members: dict[str, bytes]) -> None:
    """Keep a genuine signature of the studio, over something else."""
    record = SignatureRecord.from_bytes(members[SIGNATURE])
    payload = record.envelope.payload.replace(b"style-bundle", b"encoder-adapter")
    envelope = Envelope(payload_type=PAYLOAD_TYPE, payload=payload, signature=record.envelope.signature)
    members[SIGNATURE] = SignatureRecord(hint=record.hint, envelope=envelope).to_bytes()


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda members: members.pop(SIGNATURE), "E_UNSIGNED"),
        (lambda members: members.update({SIGNATURE: b"{}"}), "E_SIG_FORMAT"),
        (double_signature, "E_SIG_FORMAT"),
        (foreign_payload, "E_SIG_BAD"),
        (old_predicate, "E_STATEMENT"),
    ],
)
def test_stripped_forged_doubled_or_downgraded_signature(
    refused: Callable[..., str], style_path: Path, edit: Callable[[dict[str, bytes]], None], code: str
) -> None:
    assert refused(forge(style_path, edit, sign=False).read_bytes()) == code


def test_downgrade_of_the_format(refused: Callable[..., str], style_path: Path) -> None:
    changed = forge(style_path, edit_json("manifest.json", lambda value: value.update(format_version="0.9")))
    assert refused(changed.read_bytes()) == "E_VERSION"


def test_right_name_with_wrong_key(refused: Callable[..., str], tmp_path: Path) -> None:
    impostor = provider_key(OTHER_KEY, name="Studio")
    write_style(tmp_path / "x.mdfy", manifest=style_manifest(impostor), key=OTHER_KEY, provider=impostor)
    assert refused((tmp_path / "x.mdfy").read_bytes()) == "E_UNTRUSTED"


def test_pinned_key_of_another_provider(refused: Callable[..., str], store: TrustStore, style_bytes: bytes) -> None:
    # Both are pinned; the other one signs what the studio published.
    store.add(OTHER)
    assert refused(resign(unpack(style_bytes), key=OTHER_KEY)) == "E_PROVIDER_MISMATCH"


def test_key_of_another_curve(refused: Callable[..., str], style_path: Path) -> None:
    # Algorithm confusion: the record has no field for an algorithm, and such a key cannot be pinned.
    larger = ec.derive_private_key(7, ec.SECP384R1())
    with pytest.raises(ProtocolError) as caught:
        provider_key(larger)
    assert caught.value.code == "E_KEY_TYPE"

    def sign_with_it(members: dict[str, bytes]) -> None:
        record = SignatureRecord.from_bytes(members[SIGNATURE])

        signature = larger.sign(pae(PAYLOAD_TYPE, record.envelope.payload), ec.ECDSA(SHA384()))
        envelope = Envelope(payload_type=PAYLOAD_TYPE, payload=record.envelope.payload, signature=signature)
        members[SIGNATURE] = SignatureRecord(hint=record.hint, envelope=envelope).to_bytes()

    assert refused(forge(style_path, sign_with_it, sign=False).read_bytes()) == "E_SIG_BAD"


def test_expired_key_and_replay_after_expiry(refused: Callable[..., str], style_bytes: bytes) -> None:
    assert refused(style_bytes, now=EXPIRES + timedelta(days=1)) == "E_KEY_EXPIRED"
    assert refused(style_bytes, now=NOW.replace(year=2027)) == "E_EXPIRED"


BOMBS = {
    "header of 2^62 bytes": (1 << 62).to_bytes(8, "little") + b"{}",
    "a million empty tensors": safetensors(
        {f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(20_000)}, b""
    ),
    "wrong shape": safetensors({"a": {"dtype": "F32", "shape": [1 << 31, 1 << 31], "data_offsets": [0, 4]}}, bytes(4)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_header_bombs_and_wrong_shapes(refused: Callable[..., str], style_path: Path, name: str) -> None:

    bomb = BOMBS[name]

    def plant(members: dict[str, bytes]) -> None:
        members["weights/encoder.safetensors"] = bomb
        edit_json("manifest.json", adapt)(members)

    def adapt(value: dict[str, object]) -> None:
        row = value["model"]["weights"][0]  # type: ignore[index]
        row.update(sha256=sha256(bomb).hexdigest(), size=len(bomb))

    assert refused(forge(style_path, plant).read_bytes()) == "E_TENSOR_HEADER"


def test_file_replaced_while_it_is_verified(style_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Another, equally valid bundle takes the name between two steps: the descriptor does not move.
    other = tmp_path / "other.mdfy"
    write_style(other, manifest=style_manifest(OTHER), key=OTHER_KEY, provider=OTHER)

    real = verify.read_manifest

    def swap(*arguments: object) -> object:
        other.replace(style_path)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(verify, "read_manifest", swap)
    with open_trusted(style_path) as bundle:
        assert bundle.manifest.provider.name == "Studio"
        assert bundle.read("manifest.json") == bundle.manifest.to_bytes()


def test_file_changed_after_it_was_verified(style_path: Path) -> None:
    with open_trusted(style_path) as bundle:
        size = style_path.stat().st_size
        with style_path.open("r+b") as stream:
            stream.write(b"\xff" * size)
        bundle._stream.seek(0, io.SEEK_END)
        with pytest.raises(DigestMismatchError):
            bundle.read("manifest.json")


def test_disk_full_while_publishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError):
        write_style(tmp_path / "style.mdfy")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_while_publishing(tmp_path: Path) -> None:
    # Killed after everything was written and before it was put in place: nothing has its name.
    code = f"""
import sys, os, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import protocol.storage, bundlekit
def wait(*_, **__):
    print("written", flush=True)
    time.sleep(60)
protocol.storage._put = wait
bundlekit.write_style(Path({str(tmp_path / "style.mdfy")!r}))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "style.mdfy").exists()
    write_style(tmp_path / "style.mdfy")  # what was left behind is in nobody's way


def test_costly_key_file(tmp_path: Path) -> None:
    # B-33: 2^30 would take an hour and a terabyte; it is refused before any work.
    path = tmp_path / "key.age"
    path.write_bytes(AGE_MAGIC + b"\n-> scrypt " + b"A" * 22 + b" 30\n" + b"B" * 43 + b"\n--- " + b"C" * 43 + b"\n")
    path.chmod(0o600)
    start = time.monotonic()
    with pytest.raises(ProtocolError) as caught:
        load_private_key(path, "x")
    assert caught.value.code == "E_KEYFILE"
    assert time.monotonic() - start < 1


def test_a_copy_of_the_attack_folder_is_not_enough(tmp_path: Path, store: TrustStore, style_path: Path) -> None:
    # The store is read from its own folder only: a pins.json beside the bundle changes nothing.
    evil = TrustStore(tmp_path / "evil")
    evil.add(OTHER)
    shutil.copy(tmp_path / "evil" / "pins.json", style_path.parent / "pins.json")
    assert store.find(OTHER.hint) is None
