"""``style-provider verify`` and ``inspect``: a provider looks at what clients will get (B-25)."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from programs import provider

from protocol.encryption import encrypt_stream, generate_identity
from protocol.errors import UntrustedKeyError, problem
from protocol.manifest import Usage
from protocol.provider import read_provider_key
from protocol.publish import write_bundle
from protocol.signing import load_private_key
from protocol.trust import TrustStore
from protocol.verify import open_bundle
from style_provider.cli.verify import accepting


def seal(plain: Path, path: Path) -> None:
    with plain.open("rb") as reader, path.open("wb") as writer:
        encrypt_stream(reader, writer, [generate_identity()[1]])


def test_steps_are_listed(studio: Path, tmp_path: Path) -> None:
    done = provider("verify", studio / "style.mdfy", "--key", studio / "keys" / "studio.mdfykey", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "step 12" in done.out


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_encrypted_copy_is_for_recipients_only(studio: Path, tmp_path: Path, command: str) -> None:
    seal(studio / "style.mdfy", tmp_path / "sealed.mdfy")
    key = studio / "keys" / "studio.mdfykey"
    refused = provider(command, "sealed.mdfy", "--key", key, "--json", cwd=tmp_path)
    assert refused.code == 8
    error = refused.json["error"]
    assert (error["code"], error["what"]) == ("E_NOT_RECIPIENT", "only its recipients can open this file")
    assert "plain copy" in error["hint"]


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_addressed_style_is_seen_as_by_a_recipient(studio: Path, tmp_path: Path, command: str) -> None:
    key = studio / "keys" / "studio.mdfykey"
    owner = read_provider_key(key)
    with open_bundle(studio / "style.mdfy", trust=TrustStore.of(owner), now=datetime.now(UTC)) as style:
        files = style.manifest.model.weights
        write_bundle(
            tmp_path / "for.mdfy",
            manifest=replace(style.manifest, usage=Usage(audience=("age1x",), requires_acknowledgement=True)),
            members={file.file: style.read(file.file) for file in files},
            abs_max={file.file: file.abs_max for file in files},
            key=load_private_key(studio / "keys" / "studio.pem"),
            provider=owner,
        )
    done = provider(command, "for.mdfy", "--key", key, "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.json["warnings"] == []


@pytest.mark.parametrize(
    "words",
    [
        ("verify", "style.mdfy"),
        ("audit", "style.mdfy", "--dataset", "demo"),
        ("evaluate", "style.mdfy", "--dataset", "demo", "--photos", "demo"),
        (
            "federate",
            "plan",
            "style.mdfy",
            "--sites",
            "sites",
            "--rounds",
            "2",
            "--out",
            "plan",
            "--address",
            "localhost:8443",
        ),
    ],
)
def test_a_signer_who_is_not_accepted_is_accepted_by_naming_a_key(
    words: tuple[str, ...], studio: Path, tmp_path: Path
) -> None:
    shutil.copy(studio / "style.mdfy", tmp_path)
    assert provider("keygen", "--name", "Other", "--no-passphrase", "--out", "keys", cwd=tmp_path).code == 0
    refused = provider(*words, "--json", cwd=tmp_path)  # by the one key of ./keys
    error, signer = refused.json["error"], read_provider_key(studio / "keys" / "studio.mdfykey")
    assert (refused.code, error["code"], error["step"]) == (5, "E_UNTRUSTED", 6)
    assert signer.fingerprint in error["why"]
    assert error["why"].endswith(f"accepted here is only {Path('keys', 'other.mdfykey')}")
    assert error["hint"] == "name the .mdfykey file of the key that signed it with --key"


def test_a_file_that_names_no_provider_says_so() -> None:
    with pytest.raises(UntrustedKeyError) as caught, accepting([Path("a"), Path("b")]):
        raise problem("E_UNTRUSTED")
    assert caught.value.why == "it does not say whom it comes from; accepted here is only a and b"


def test_another_doubt_about_a_key_keeps_its_cure() -> None:
    with pytest.raises(UntrustedKeyError) as caught, accepting([Path("a")]):
        raise problem("E_KEY_ROLE", fix="f")
    assert caught.value.fix == "f"


def test_damage_names_its_step(studio: Path, tmp_path: Path) -> None:
    data = (studio / "style.mdfy").read_bytes().replace(b'"allowed"', b'"allowee"', 1)
    (tmp_path / "bad.mdfy").write_bytes(data)
    key = studio / "keys" / "studio.mdfykey"
    error = provider("verify", "bad.mdfy", "--key", key, "--json", cwd=tmp_path).json["error"]
    assert (error["code"], error["step"]) == ("E_DIGEST", 9)
