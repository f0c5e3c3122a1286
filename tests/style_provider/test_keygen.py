"""``style-provider keygen`` (B-32, B-36, B-41, U-40)."""

from pathlib import Path

from programs import provider

from protocol.provider import read_provider_key
from protocol.revocation import read_revocation
from protocol.signing import load_private_key


def test_keygen_writes_its_files_and_prints_the_trust_line(tmp_path: Path) -> None:
    result = provider("keygen", "--name", "Studio X", "--out", "keys", "--no-passphrase", cwd=tmp_path)
    assert result.code == 0
    key = read_provider_key(tmp_path / "keys" / "studio-x.mdfykey")
    assert (key.name, key.roles) == ("Studio X", ("style",))
    assert f"content-client trust add studio-x.mdfykey --fingerprint {key.fingerprint}" in result.out
    private = tmp_path / "keys" / "studio-x.pem"
    assert (private.stat().st_mode & 0o777) == 0o600
    load_private_key(private)


def test_keygen_makes_the_revocation_of_the_key(tmp_path: Path) -> None:
    # B-41: ready for the day on which the key is lost, and of use to nobody else before.
    result = provider("keygen", "--name", "Studio X", "--out", "keys", "--no-passphrase", cwd=tmp_path)
    path = tmp_path / "keys" / "studio-x.revoke.mdfyrev"
    key = read_provider_key(tmp_path / "keys" / "studio-x.mdfykey")
    revocation = read_revocation(path).open([key])
    assert (revocation.number, list(revocation.keys)) == (0, [key.fingerprint])
    assert path.stat().st_mode & 0o777 == 0o600
    assert "studio-x.revoke.mdfyrev" in result.out
    assert "refuse the key for good" in result.out


def test_keygen_protects_the_key(tmp_path: Path, monkeypatch: object) -> None:
    (tmp_path / "phrase").write_text("secret words\n")
    result = provider(
        "keygen", "--name", "S", "--passphrase-file", "phrase", "--expires", "90d", "--json", cwd=tmp_path
    )
    assert result.code == 0
    body = result.json["result"]
    assert body["private_key"].endswith("s.pem.age")
    assert Path(body["private_key"]).read_bytes().startswith(b"age-encryption.org/v1")
    key = read_provider_key(Path(body["public_key"]))
    assert (key.expires - key.not_before).days == 90
    assert body["fingerprint"] == key.fingerprint


def test_keygen_never_replaces_a_key_silently(tmp_path: Path) -> None:
    words = ("keygen", "--name", "S", "--out", "keys", "--no-passphrase")
    assert provider(*words, cwd=tmp_path).code == 0
    old = (tmp_path / "keys" / "s.pem").read_bytes()
    refused = provider(*words, cwd=tmp_path)
    assert refused.code == 9
    assert (tmp_path / "keys" / "s.pem").read_bytes() == old
    assert provider(*words, "--overwrite", cwd=tmp_path).code == 0
    assert (tmp_path / "keys" / "s.pem").read_bytes() != old


def test_keygen_leaves_no_second_private_file_behind(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "s.pem.age").write_text("an old key")
    words = ("keygen", "--name", "S", "--out", "keys", "--no-passphrase")
    assert provider(*words, cwd=tmp_path).code == 9
    assert provider(*words, "--overwrite", cwd=tmp_path).code == 0
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == ["s.mdfykey", "s.pem", "s.revoke.mdfyrev"]


def test_keygen_asks_for_nothing_when_a_file_is_in_the_way(tmp_path: Path) -> None:
    assert provider("keygen", "--name", "S", "--out", "keys", "--no-passphrase", cwd=tmp_path).code == 0
    assert provider("keygen", "--name", "S", "--out", "keys", cwd=tmp_path).code == 9


def test_keygen_without_a_terminal_needs_a_decision(tmp_path: Path) -> None:
    result = provider("keygen", "--name", "S", "--out", "keys", cwd=tmp_path)
    assert result.code == 2
    assert "MDFY_PASSPHRASE" in result.err
    assert not (tmp_path / "keys").exists()


def test_keygen_refuses_a_life_it_cannot_read(tmp_path: Path) -> None:
    result = provider("keygen", "--name", "S", "--no-passphrase", "--expires", "soon", cwd=tmp_path)
    assert result.code == 2
    assert "write it like 2y, 6m or 90d" in result.err
