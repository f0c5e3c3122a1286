"""Encrypted bundles are ordinary age files: read and written by others, both ways (B-28, B-47).

The other side is age v1 written down once more from its specification, with
``cryptography`` alone; and the program ``age`` or ``rage`` where there is one.
"""

import base64
import hmac
import io
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.encryption import AGE_MAGIC, Identity, decrypt_stream, encrypt_stream, generate_identity

SECRET, RECIPIENT = generate_identity()
EDGES = [0, 1, 65535, 65536, 65537, 131072]
CHUNK = 65536
NO_NONCE = bytes(12)


def encrypted(data: bytes) -> bytes:
    writer = io.BytesIO()
    encrypt_stream(io.BytesIO(data), writer, [RECIPIENT])
    return writer.getvalue()


def decrypted(data: bytes) -> bytes:
    writer = io.BytesIO()
    decrypt_stream(io.BytesIO(data), writer, Identity(recipient=RECIPIENT, secret=lambda: SECRET))
    return writer.getvalue()


# --- age v1 from its specification ----------------------------------------------------------


def bech32(text: str) -> bytes:
    """Return the 32 bytes of a key; the checksum, the last six characters, is left to pyrage."""
    letters = text.lower().rpartition("1")[2][:-6]
    bits = "".join(f"{'qpzry9x8gf2tvdw0s3jn54khce6mua7l'.index(letter):05b}" for letter in letters)
    return int(bits[:256], 2).to_bytes(32, "big")


def derive(key: bytes, salt: bytes | None, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, info).derive(key)


def wrapping(shared: bytes, ephemeral: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(derive(shared, ephemeral + bech32(RECIPIENT), b"age-encryption.org/v1/X25519"))


def pad(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def unpad(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4))


def nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def spec_encrypt(data: bytes) -> bytes:
    file_key, salt, ephemeral = b"k" * 16, b"n" * 16, X25519PrivateKey.from_private_bytes(b"e" * 32)
    share = ephemeral.public_key().public_bytes_raw()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(bech32(RECIPIENT)))
    body = wrapping(shared, share).encrypt(NO_NONCE, file_key, None)
    header = b"\n".join([AGE_MAGIC, b"-> X25519 " + pad(share), pad(body), b"---"])
    mac = hmac.digest(derive(file_key, None, b"header"), header, "sha256")
    cipher = ChaCha20Poly1305(derive(file_key, salt, b"payload"))
    chunks = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)] or [b""]
    sealed = [cipher.encrypt(nonce(n, n == len(chunks) - 1), chunk, None) for n, chunk in enumerate(chunks)]
    return header + b" " + pad(mac) + b"\n" + salt + b"".join(sealed)


def spec_decrypt(data: bytes) -> bytes:
    header, _, rest = data.partition(b"\n--- ")
    mac, _, payload = rest.partition(b"\n")
    lines = header.split(b"\n")
    found = next(index for index, line in enumerate(lines) if line.startswith(b"-> X25519 "))
    share = unpad(lines[found].split()[2])
    secret = X25519PrivateKey.from_private_bytes(bech32(SECRET))
    shared = secret.exchange(X25519PublicKey.from_public_bytes(share))
    file_key = wrapping(shared, share).decrypt(NO_NONCE, unpad(lines[found + 1]), None)
    assert unpad(mac) == hmac.digest(derive(file_key, None, b"header"), header + b"\n---", "sha256")
    cipher = ChaCha20Poly1305(derive(file_key, payload[:16], b"payload"))
    body = payload[16:]
    sealed = [body[start : start + CHUNK + 16] for start in range(0, len(body), CHUNK + 16)]
    opened = [cipher.decrypt(nonce(n, n == len(sealed) - 1), chunk, None) for n, chunk in enumerate(sealed)]
    return b"".join(opened)


@pytest.mark.parametrize("size", EDGES)
def test_the_specification_opens_it_and_the_other_way_round(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert spec_decrypt(encrypted(data)) == data
    assert decrypted(spec_encrypt(data)) == data


AGE = shutil.which("age") or shutil.which("rage")


@pytest.mark.skipif(AGE is None, reason="there is no age or rage program here")
@pytest.mark.parametrize("size", EDGES)
def test_age_program_opens_it_and_the_other_way_round(tmp_path: Path, size: int) -> None:
    assert AGE is not None
    data = bytes(size)
    (tmp_path / "key").write_text(SECRET + "\n")
    (tmp_path / "key").chmod(0o600)
    ours = subprocess.run(
        [AGE, "-d", "-i", tmp_path / "key"], input=encrypted(data), check=True, capture_output=True
    ).stdout
    assert ours == data
    theirs = subprocess.run([AGE, "-r", RECIPIENT], input=data, check=True, capture_output=True).stdout
    assert decrypted(theirs) == data
