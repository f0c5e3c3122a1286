"""Wrong recipient, damaged ciphertext, forwarded bundle, costly age header (B-27, B-31, B-33)."""

import io
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from attackkit import snapshot
from bundlekit import CLIENT, CLIENT_KEY, NOW, adapter_manifest, open_trusted, style_manifest, weights, write_style

from protocol.encryption import AGE_MAGIC, Identity, decrypt_stream, encrypt_stream, generate_identity
from protocol.errors import ProtocolError
from protocol.manifest import Usage
from protocol.trust import TrustStore
from protocol.verify import verify_bundle

Refused = Callable[..., str]


def identity() -> Identity:
    secret, recipient = generate_identity()
    return Identity(recipient=recipient, secret=lambda: secret)


def never() -> str:
    message = "the passphrase must not be asked for"
    raise AssertionError(message)


ME, STRANGER = identity(), identity()


def encrypted(data: bytes, *recipients: str) -> bytes:
    stream = io.BytesIO()
    encrypt_stream(io.BytesIO(data), stream, recipients or (ME.recipient,))
    return stream.getvalue()


@pytest.fixture
def private(tmp_path: Path) -> bytes:
    """A bundle that is addressed and encrypted to one client."""
    path = tmp_path / "private.mdfy"
    manifest = replace(style_manifest(), usage=Usage(audience=(ME.recipient,)))
    write_style(path, manifest=manifest, recipients=(ME.recipient,))
    data = path.read_bytes()
    path.unlink()
    return data


def test_recipient_can_open_it(private: bytes, store: TrustStore, tmp_path: Path) -> None:
    # The counterpart of all that follows.
    path = tmp_path / "private.mdfy"
    path.write_bytes(private)
    assert verify_bundle(path, trust=store, now=NOW, identity=ME).manifest.usage.audience == (ME.recipient,)


def test_wrong_recipient(refused: Refused, private: bytes) -> None:
    assert refused(private, identity=STRANGER) == "E_NOT_RECIPIENT"


def test_no_identity_at_all(refused: Refused, private: bytes) -> None:
    assert refused(private) == "E_NOT_RECIPIENT"


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_damaged_ciphertext(refused: Refused, private: bytes, part: float) -> None:
    broken = bytearray(private)
    broken[int(len(broken) * part)] ^= 1
    assert refused(bytes(broken), identity=ME) in {"E_DECRYPT", "E_NOT_RECIPIENT"}


@pytest.mark.parametrize("cut", [1, 100, 5000])
def test_truncated_ciphertext(refused: Refused, private: bytes, cut: int) -> None:
    assert refused(private[:-cut], identity=ME) == "E_DECRYPT"


def test_bytes_after_the_ciphertext(refused: Refused, private: bytes) -> None:
    assert refused(private + b"x", identity=ME) == "E_DECRYPT"


def test_forwarded_in_the_clear(refused: Refused, private: bytes) -> None:
    # A client decrypts its copy and passes it on: the signed audience closes that (B-27).
    plain = io.BytesIO()
    decrypt_stream(io.BytesIO(private), plain, ME)
    assert refused(plain.getvalue()) == "E_AUDIENCE"
    assert refused(plain.getvalue(), identity=replace(STRANGER, secret=never)) == "E_AUDIENCE"


def test_forwarded_encrypted_again(refused: Refused, private: bytes) -> None:
    plain = io.BytesIO()
    decrypt_stream(io.BytesIO(private), plain, ME)
    assert refused(encrypted(plain.getvalue(), STRANGER.recipient), identity=STRANGER) == "E_AUDIENCE"


def test_encryption_is_no_signature(refused: Refused, style_bytes: bytes) -> None:
    # Anyone can encrypt to me; what is inside is judged as always.
    broken = bytearray(style_bytes)
    broken[style_bytes.index(weights())] ^= 1
    assert refused(encrypted(bytes(broken)), identity=ME) == "E_DIGEST"


def test_encrypted_twice(refused: Refused, style_bytes: bytes) -> None:
    assert refused(encrypted(encrypted(style_bytes)), identity=ME) == "E_FORMAT"


def test_armoured_file(refused: Refused) -> None:
    assert refused(b"-----BEGIN AGE ENCRYPTED FILE-----\n", identity=ME) == "E_FORMAT"


STANZA = b"-> X25519 " + b"A" * 43 + b"\n" + b"B" * 43 + b"\n"
END = b"--- " + b"C" * 43 + b"\n" + bytes(100)


@pytest.mark.parametrize(
    "header",
    [
        STANZA * 33,
        b"-> x " + b"A" * (65 << 10) + b"\n" + b"B" * 43 + b"\n",
        b"-> scrypt " + b"A" * 22 + b" 30\n" + b"B" * 43 + b"\n",
        b"",
    ],
)
def test_costly_header(refused: Refused, header: bytes) -> None:
    # B-33: refused by its form, before the library, the passphrase or any work.
    start = time.monotonic()
    code = refused(AGE_MAGIC + b"\n" + header + END, identity=replace(ME, secret=never) if header else ME)
    assert code in {"E_DECRYPT", "E_NOT_RECIPIENT"}
    assert time.monotonic() - start < 1


def test_local_weights_are_not_given_away(style_path: Path, tmp_path: Path) -> None:
    with open_trusted(style_path) as style:
        manifest = adapter_manifest(style)
    manifest = replace(manifest, model=replace(manifest.model, trainable=("head.weight",)))
    name = "weights/encoder.safetensors"
    before = snapshot(tmp_path)
    with pytest.raises(ProtocolError) as caught:
        write_style(
            tmp_path / "x.mdfa", manifest=manifest, members={name: weights({"head.weight": [2, 3]})},
            abs_max={name: 0.5}, key=CLIENT_KEY, provider=CLIENT, recipients=(ME.recipient,),
        )  # fmt: skip
    assert caught.value.code == "E_LOCAL_ONLY"
    assert caught.value.exit_code == 6
    assert snapshot(tmp_path) == before
