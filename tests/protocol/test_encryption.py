"""Private keys under a passphrase, bundles for recipients (B-27 to B-33)."""

import base64
import errno
import hmac
import importlib
import io
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from protocol import encryption
from protocol.encryption import (
    AGE_MAGIC,
    MAX_RECIPIENTS,
    Identity,
    check_recipient,
    decrypt_stream,
    encrypt_stream,
    generate_identity,
    is_age,
    lock,
    recipient_of,
    unlock,
)
from protocol.errors import EnvironmentMissingError, KeyFileError, ProtocolError


def derive(key: bytes, salt: bytes | None, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, info).derive(key)


def age_file(plaintext: bytes, passphrase: str, log_n: int) -> bytes:
    """Make an age v1 passphrase file of one chunk, cheap to open; pyrage makes dear ones only."""
    file_key, salt, nonce = bytes(16), b"s" * 16, b"n" * 16
    wrap = Scrypt(b"age-encryption.org/v1/scrypt" + salt, 32, 1 << log_n, 8, 1).derive(passphrase.encode())
    body = ChaCha20Poly1305(wrap).encrypt(bytes(12), file_key, None)
    lines = [AGE_MAGIC, b"-> scrypt %b %d" % (unpadded(salt), log_n), unpadded(body), b"---"]
    mac = hmac.digest(derive(file_key, None, b"header"), b"\n".join(lines), "sha256")
    chunk = ChaCha20Poly1305(derive(file_key, nonce, b"payload")).encrypt(bytes(11) + b"\1", plaintext, None)
    return b"\n".join(lines) + b" " + unpadded(mac) + b"\n" + nonce + chunk


def unpadded(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


LOCKED = age_file(b"secret", "correct horse", 4)


def test_passphrase_opens_it() -> None:
    # The way back, lock() and then unlock(), is part of test_signing.
    assert is_age(LOCKED)
    assert unlock(LOCKED, "correct horse") == b"secret"


@pytest.mark.parametrize("damage", ["passphrase", "body", "truncated"])
def test_wrong_passphrase_or_damage(damage: str) -> None:
    passphrase = "wrong" if damage == "passphrase" else "correct horse"
    data = {"passphrase": LOCKED, "body": LOCKED[:-1] + bytes([LOCKED[-1] ^ 1]), "truncated": LOCKED[:-3]}[damage]
    with pytest.raises(KeyFileError, match="wrong passphrase, or damaged"):
        unlock(data, passphrase)


SALT = b"A" * 22


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        (AGE_MAGIC + b"\n-> scrypt " + SALT + b" 22\nbody\n--- mac", "above"),
        (AGE_MAGIC + b"\n-> scrypt " + SALT + b" 99\nbody\n--- mac", "above"),
        (AGE_MAGIC + b"\n-> scrypt " + SALT + b" 018\nbody\n--- mac", "exactly one"),
        (AGE_MAGIC + b"\n-> scrypt " + SALT + b" 18\nb\n-> scrypt " + SALT + b" 18\nb\n--- mac", "exactly one"),
        (AGE_MAGIC + b"\n-> X25519 abc\nbody\n--- mac", "exactly one"),
        (AGE_MAGIC + b"\n--- mac", "exactly one"),
        (AGE_MAGIC + b"\n-> scrypt " + SALT + b" 18\n" + b"x" * (65 << 10) + b"\n--- mac", "damaged"),
        (AGE_MAGIC + b"2\n-> scrypt " + SALT + b" 18\nbody\n--- mac", "damaged"),
        (AGE_MAGIC, "damaged"),
    ],
)
def test_header_is_checked_before_it_costs_anything(
    header: bytes, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never() -> NoReturn:
        pytest.fail("pyrage must not see this header")

    monkeypatch.setattr(encryption, "_pyrage", never)
    with pytest.raises(KeyFileError, match=detail):
        unlock(header, "x")


def test_empty_passphrase_is_refused() -> None:
    with pytest.raises(KeyFileError, match="empty passphrase"):
        lock(b"secret", "")


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> NoReturn:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(EnvironmentMissingError) as caught:
        lock(b"secret", "x")
    assert caught.value.code == "E_NO_AGE"


def test_busy_machine_is_told_from_a_wrong_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    class Busy:
        DecryptError = ValueError

        class passphrase:  # noqa: N801 - the name of pyrage's module
            @staticmethod
            def decrypt(_data: bytes, _passphrase: str) -> NoReturn:
                message = "Excessive work parameter for passphrase"
                raise ValueError(message)

    monkeypatch.setattr(encryption, "_pyrage", lambda: Busy)
    with pytest.raises(KeyFileError, match="too busy") as caught:
        unlock(LOCKED, "correct horse")
    assert "when less is running" in caught.value.fix


# --- to recipients --------------------------------------------------------------------------


def own(secret: str) -> Identity:
    return Identity(recipient=recipient_of(secret), secret=lambda: secret)


SECRET, RECIPIENT = generate_identity()
OWN = own(SECRET)
STRANGER = own(generate_identity()[0])


def encrypted(data: bytes, *recipients: str) -> bytes:
    writer = io.BytesIO()
    encrypt_stream(io.BytesIO(data), writer, recipients or (RECIPIENT,))
    return writer.getvalue()


def decrypted(data: bytes, identity: Identity = OWN) -> bytes:
    writer = io.BytesIO()
    decrypt_stream(io.BytesIO(data), writer, identity)
    return writer.getvalue()


def code_of(data: bytes, identity: Identity = OWN) -> str:
    with pytest.raises(ProtocolError) as caught:
        decrypted(data, identity)
    return caught.value.code


# B-47: age splits into chunks of 64 KiB.
EDGES = [0, 1, 65535, 65536, 65537, 131072]


@pytest.mark.parametrize("size", EDGES)
def test_stream_round_trip(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert is_age(encrypted(data))
    assert decrypted(encrypted(data)) == data


def test_every_recipient_can_open_it_and_nobody_else() -> None:
    data = encrypted(b"style", RECIPIENT, STRANGER.recipient)
    assert decrypted(data) == decrypted(data, STRANGER) == b"style"
    third = own(generate_identity()[0])
    with pytest.raises(KeyFileError) as caught:
        decrypted(data, third)
    assert (caught.value.code, caught.value.exit_code) == ("E_NOT_RECIPIENT", 8)
    assert third.recipient in caught.value.why


LONG = encrypted(bytes(131072))
MAC = LONG.index(b"\n--- ") + 5


@pytest.mark.parametrize(
    "damage",
    [
        LONG[:-1],
        LONG[:-16],
        LONG[: -65536 - 16],
        LONG[: MAC + 44],
        LONG[: MAC + 50],
        LONG[:100],
        LONG + b"x",
        LONG[:-1] + bytes([LONG[-1] ^ 1]),
        LONG[:70000] + bytes([LONG[70000] ^ 1]) + LONG[70001:],
        LONG[:MAC] + (b"A" if LONG[MAC : MAC + 1] != b"A" else b"B") + LONG[MAC + 1 :],
    ],
    ids=["end", "tag", "last chunk", "nonce", "half nonce", "header", "tail", "bit", "bit of a chunk", "mac"],
)
def test_damage_is_told_from_the_wrong_key(damage: bytes) -> None:
    assert code_of(damage) == "E_DECRYPT"


def never() -> NoReturn:
    pytest.fail("the secret must not be asked for")


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (AGE_MAGIC + b"\n" + b"-> X25519 abc\nbody\n" * 33 + b"--- mac", "E_DECRYPT"),
        (AGE_MAGIC + b"\n-> X25519 " + b"a" * (64 << 10) + b"\nbody\n--- mac", "E_DECRYPT"),
        (AGE_MAGIC + b"2\n-> X25519 abc\nbody\n--- mac", "E_DECRYPT"),
        (AGE_MAGIC, "E_DECRYPT"),
        (LOCKED, "E_NOT_RECIPIENT"),
    ],
    ids=["stanzas", "length", "version", "end", "passphrase"],
)
def test_header_is_checked_before_the_secret_is_asked_for(header: bytes, code: str) -> None:
    # B-33
    assert code_of(header, Identity(recipient=RECIPIENT, secret=never)) == code


def test_most_recipients() -> None:
    many = [generate_identity()[1] for _ in range(MAX_RECIPIENTS)]
    assert decrypted(encrypted(b"x", RECIPIENT, *many[1:])) == b"x"
    with pytest.raises(KeyFileError, match="32 recipients, not 1 to 31"):
        encrypted(b"x", RECIPIENT, *many)


def test_nobody_is_no_recipient() -> None:
    with pytest.raises(KeyFileError, match="0 recipients"):
        encrypt_stream(io.BytesIO(b"x"), io.BytesIO(), [])


def test_recipient_may_have_spaces_around_it() -> None:
    assert check_recipient(f" {RECIPIENT}\n") == RECIPIENT


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", "not an X25519"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5", "not an X25519"),
        ("age1pq1" + "q" * 300, "not an X25519"),  # B, section 13: never mixed
        (SECRET, "not an X25519"),
        (RECIPIENT.upper(), "not an X25519"),
        (RECIPIENT[:-1] + ("q" if RECIPIENT[-1] != "q" else "p"), "mistyped"),
    ],
    ids=["empty", "ssh", "post-quantum", "secret", "upper-case", "mistyped"],  # the keys are new in every process
)
def test_other_recipients_are_refused(text: str, detail: str) -> None:
    with pytest.raises(KeyFileError, match=detail) as caught:
        check_recipient(text)
    assert caught.value.code == "E_KEYFILE"


def test_secret_that_is_none() -> None:
    assert code_of(LONG, Identity(recipient=RECIPIENT, secret=lambda: "AGE-SECRET-KEY-1XYZ")) == "E_KEYFILE"


def test_full_disk_is_not_damage() -> None:
    class Full(io.BytesIO):
        def write(self, _data: object) -> NoReturn:
            raise OSError(errno.ENOSPC, "no space left on device")

    with pytest.raises(OSError, match="no space left"):
        decrypt_stream(io.BytesIO(LONG), Full(), OWN)


def test_identity_does_not_show_its_secret() -> None:
    assert SECRET not in repr(OWN)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    # B-30: peak resident memory of a process of its own, which pyrage's memory is part of.
    code = f"""
import io, resource, sys
from protocol.encryption import Identity, decrypt_stream, encrypt_stream
encrypt_stream(io.BytesIO(b"x"), io.BytesIO(), ["{RECIPIENT}"])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open("plain", "wb") as stream:
    stream.truncate(64 << 20)
with open("plain", "rb") as reader, open("secret", "wb") as writer:
    encrypt_stream(reader, writer, ["{RECIPIENT}"])
with open("secret", "rb") as reader, open("again", "wb") as writer:
    decrypt_stream(reader, writer, Identity(recipient="{RECIPIENT}", secret=lambda: "{SECRET}"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert (tmp_path / "again").stat().st_size == 64 << 20
    assert int(done.stdout) < 16 << 10  # KiB on Linux; 16 MiB at most, also where it counts bytes
