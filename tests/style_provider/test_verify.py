"""``style-provider verify`` and ``inspect``: a provider looks at what clients will get (B-25)."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from programs import provider

from protocol.encryption import encrypt_stream, generate_identity
from protocol.manifest import Usage
from protocol.provider import read_provider_key
from protocol.publish import write_bundle
from protocol.signing import load_private_key
from protocol.trust import TrustStore
from protocol.verify import open_bundle


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


def test_damage_names_its_step(studio: Path, tmp_path: Path) -> None:
    data = (studio / "style.mdfy").read_bytes().replace(b'"allowed"', b'"allowee"', 1)
    (tmp_path / "bad.mdfy").write_bytes(data)
    key = studio / "keys" / "studio.mdfykey"
    error = provider("verify", "bad.mdfy", "--key", key, "--json", cwd=tmp_path).json["error"]
    assert (error["code"], error["step"]) == ("E_DIGEST", 9)
