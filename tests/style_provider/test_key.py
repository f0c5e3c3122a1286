"""``style-provider key``: show, export, change-passphrase, rotate, revoke (B-32, B-36 to B-41)."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from programs import provider

from protocol.encryption import lock
from protocol.provider import ProviderKey, issue_provider_key, read_provider_key, write_provider_key
from protocol.revocation import read_revocation
from protocol.signing import generate_key, load_private_key, save_private_key


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with the bare key ``studio``."""
    assert provider("keygen", "--name", "Studio", "--out", "keys", "--no-passphrase", cwd=tmp_path).code == 0
    return tmp_path / "keys"


def public(folder: Path, stem: str = "studio") -> ProviderKey:
    return read_provider_key(folder / f"{stem}.mdfykey")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rotate(keys: Path, name: str = "studio.pem", *words: str) -> None:
    made = provider("key", "rotate", f"keys/{name}", "--no-passphrase", *words, cwd=keys.parent)
    assert made.code == 0, made.err


# --- show, export ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["studio.pem", "studio.pem.age", "studio.mdfykey"])
def test_show_reads_the_public_file_whichever_is_named(keys: Path, name: str) -> None:
    (keys / "studio.pem").unlink()
    result = provider("key", "show", f"keys/{name}", "--json", cwd=keys.parent)
    key = public(keys)
    assert result.json["result"] == {
        "name": "Studio", "contact": "", "provider_id": key.provider_id, "serial": 1,
        "fingerprint": key.fingerprint, "roles": ["style"], "not_before": key.not_before.isoformat(),
        "expires": key.expires.isoformat(), "previous": "",
    }  # fmt: skip


def test_show_prints_one_fact_a_line(keys: Path) -> None:
    lines = provider("key", "show", "keys/studio.pem", cwd=keys.parent).out.splitlines()
    assert f"fingerprint  {public(keys).fingerprint}" in lines
    assert "roles        style" in lines
    assert "previous     -" in lines


def test_show_warns_of_an_expired_key(tmp_path: Path) -> None:
    _old_pair(tmp_path)
    result = provider("key", "show", "old.pem", cwd=tmp_path)
    assert result.code == 0
    assert "this key has expired" in result.err


def test_show_without_a_public_file(tmp_path: Path) -> None:
    result = provider("key", "show", "nothing.pem", cwd=tmp_path)
    assert result.code == 9
    assert "nothing.mdfykey" in result.err


def test_export_writes_the_same_file(keys: Path) -> None:
    result = provider("key", "export", "keys/studio.pem", "--out", "for clients.mdfykey", cwd=keys.parent)
    assert result.code == 0
    assert (keys.parent / "for clients.mdfykey").read_bytes() == (keys / "studio.mdfykey").read_bytes()
    line = f"content-client trust add 'for clients.mdfykey' --fingerprint {public(keys).fingerprint}"
    assert line in result.out


def test_export_does_not_overwrite_silently(keys: Path) -> None:
    words = ("key", "export", "keys/studio.pem", "--out", "x.mdfykey")
    (keys.parent / "x.mdfykey").write_text("mine")
    assert provider(*words, cwd=keys.parent).code == 9
    assert (keys.parent / "x.mdfykey").read_text() == "mine"
    assert provider(*words, "--overwrite", cwd=keys.parent).code == 0
    assert read_provider_key(keys.parent / "x.mdfykey") == public(keys)


# --- change-passphrase ----------------------------------------------------------------------


def test_passphrase_is_set_changed_and_removed(keys: Path) -> None:
    folder = keys.parent
    (folder / "one").write_text("first words\n")
    (folder / "two").write_text("second words\n")
    bare = load_private_key(keys / "studio.pem").private_numbers()

    result = provider("key", "change-passphrase", "keys/studio.pem", "--new-passphrase-file", "one", cwd=folder)
    assert result.code == 0
    assert not (keys / "studio.pem").exists()
    locked = keys / "studio.pem.age"
    assert locked.stat().st_mode & 0o777 == 0o600
    first = locked.read_bytes()

    words = ("key", "change-passphrase", "keys/studio.pem.age", "--passphrase-file", "one")
    assert provider(*words, "--new-passphrase-file", "two", cwd=folder).code == 0
    second = locked.read_bytes()
    assert second.startswith(b"age-encryption.org/v1")
    assert second != first

    assert provider(*words, "--no-passphrase", cwd=folder).code == 8  # the old passphrase opens it no more
    assert locked.read_bytes() == second

    words = ("key", "change-passphrase", "keys/studio.mdfykey", "--passphrase-file", "two")
    assert provider(*words, "--no-passphrase", cwd=folder).code == 0
    assert not locked.exists()
    assert load_private_key(keys / "studio.pem").private_numbers() == bare


def test_old_passphrase_of_the_environment_is_not_the_new_one(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDFY_PASSPHRASE", "old words")
    before = files(keys)
    result = provider("key", "change-passphrase", "keys/studio.pem", cwd=keys.parent)
    assert result.code == 2
    assert "--new-passphrase-file" in result.err
    assert files(keys) == before


def test_file_in_the_way_of_the_new_suffix_is_kept(keys: Path) -> None:
    (keys.parent / "one").write_text("first words\n")
    (keys / "studio.pem.age").write_text("something")
    words = ("key", "change-passphrase", "keys/studio.pem", "--new-passphrase-file", "one")
    before = files(keys)
    assert provider(*words, cwd=keys.parent).code == 9
    assert files(keys) == before
    assert provider(*words, "--overwrite", cwd=keys.parent).code == 0
    assert (keys / "studio.pem.age").read_bytes().startswith(b"age-encryption.org/v1")
    assert not (keys / "studio.pem").exists()


def test_new_file_that_does_not_read_back_leaves_the_old_one(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (keys.parent / "one").write_text("first words\n")
    before = files(keys)
    monkeypatch.setattr("protocol.signing.load_private_key", lambda *_: generate_key())
    words = ("key", "change-passphrase", "keys/studio.pem", "--new-passphrase-file", "one")
    assert provider(*words, cwd=keys.parent).code == 8
    assert files(keys) == before


def test_options_that_contradict_each_other(keys: Path) -> None:
    words = ("keys/studio.pem", "--no-passphrase", "--new-passphrase-file", "x")
    for command in ("change-passphrase", "rotate"):
        result = provider("key", command, *words, cwd=keys.parent)
        assert result.code == 2
        assert "contradicts" in result.err


def test_public_file_alone_has_no_passphrase(keys: Path) -> None:
    (keys / "studio.pem").unlink()
    result = provider("key", "change-passphrase", "keys/studio.mdfykey", "--no-passphrase", cwd=keys.parent)
    assert result.code == 2
    assert "no private key beside" in result.err


# --- rotate ---------------------------------------------------------------------------------


def test_rotation_makes_the_next_key_and_names_the_client_line(keys: Path) -> None:
    before = files(keys)
    result = provider(
        "key", "rotate", "keys/studio.pem", "--no-passphrase", "--expires", "90d", "--json", cwd=keys.parent
    )
    assert result.code == 0, result.err
    new = public(keys, "studio-2")
    new.check_endorsement(public(keys))
    assert (new.serial, (new.expires - new.not_before).days) == (2, 90)
    assert load_private_key(keys / "studio-2.pem").public_key() == new.public_key
    assert result.json["result"]["public_key"] == "keys/studio-2.mdfykey"
    assert result.json["result"]["update_command"] == "content-client trust update studio-2.mdfykey"
    assert before.items() <= files(keys).items()


def test_rotation_prints_what_clients_run(keys: Path) -> None:
    result = provider("key", "rotate", "keys/studio.pem", "--no-passphrase", cwd=keys.parent)
    assert "  content-client trust update studio-2.mdfykey" in result.out.splitlines()


def test_new_key_has_its_own_revocation(keys: Path) -> None:
    rotate(keys)
    path = keys / "studio-2.revoke.mdfyrev"
    assert path.stat().st_mode & 0o777 == 0o600
    ready = read_revocation(path).open([public(keys, "studio-2")])
    assert (ready.number, set(ready.keys)) == (0, {public(keys, "studio-2").fingerprint})


def test_third_key_follows_the_second(keys: Path) -> None:
    rotate(keys)
    rotate(keys, "studio-2.pem")
    public(keys, "studio-3").check_endorsement(public(keys, "studio-2"))
    assert public(keys, "studio-3").provider_id == public(keys).provider_id


def test_passphrases_of_old_and_new_key(keys: Path) -> None:
    folder = keys.parent
    (folder / "old").write_text("old words\n")
    (folder / "new").write_text("new words\n")
    (keys / "studio.pem").write_bytes(lock((keys / "studio.pem").read_bytes(), "old words"))
    (keys / "studio.pem").replace(keys / "studio.pem.age")
    result = provider(
        "key", "rotate", "keys/studio.pem.age", "--passphrase-file", "old", "--new-passphrase-file", "new", cwd=folder
    )
    assert result.code == 0, result.err
    assert load_private_key(keys / "studio-2.pem.age", "new words").public_key() == public(keys, "studio-2").public_key
    assert not (keys / "studio-2.pem").exists()


@pytest.mark.parametrize("words", [(), ("--out", "keys"), ("--overwrite",)])
def test_key_gets_one_successor_only(keys: Path, words: tuple[str, ...]) -> None:
    # B-38: a second key with serial 2 is a fork, and clients would accept neither.
    rotate(keys)
    before = files(keys)
    result = provider("key", "rotate", "keys/studio.pem", "--no-passphrase", *words, cwd=keys.parent)
    assert result.code == 2
    assert "not your current key" in result.err
    assert files(keys) == before


@pytest.mark.parametrize("folder", ["elsewhere", "a-third-place", "keys"])
def test_second_successor_in_another_folder_is_refused_too(keys: Path, folder: str) -> None:
    rotate(keys, "studio.pem", "--out", "elsewhere")
    assert public(keys, "studio-2") == public(keys.parent / "elsewhere", "studio-2")
    before = files(keys)
    again = provider("key", "rotate", "keys/studio.pem", "--no-passphrase", "--out", folder, cwd=keys.parent)
    assert again.code == 2
    assert "key 2 has replaced it" in again.err
    assert files(keys) == before
    assert not (keys.parent / "a-third-place").exists()


def test_key_with_a_successor_elsewhere_speaks_for_nobody(keys: Path) -> None:
    rotate(keys, "studio.pem", "--out", "elsewhere")
    refused = provider("revoke", "ab" * 32, "--reason", "x", cwd=keys.parent)
    assert refused.code == 2
    assert "not your current key" in refused.err
    assert not (keys / "studio.mdfyrev").exists()


def test_successor_that_cannot_be_stored_is_none(keys: Path) -> None:
    before = files(keys)
    (keys.parent / "file").write_text("in the way")
    words = ("key", "rotate", "keys/studio.pem", "--no-passphrase", "--out", "file/new")
    assert provider(*words, cwd=keys.parent).code == 9
    assert files(keys) == before
    rotate(keys)


def test_successor_is_not_made_where_the_old_key_cannot_tell_of_it(keys: Path) -> None:
    (keys / "studio-2.mdfykey").write_text("something")
    before = files(keys)
    words = ("key", "rotate", "keys/studio.pem", "--no-passphrase", "--out", "new")
    refused = provider(*words, cwd=keys.parent)
    assert (refused.code, "studio-2.mdfykey" in refused.err) == (9, True)
    assert files(keys) == before
    assert not (keys.parent / "new").exists()
    assert provider(*words, "--overwrite", cwd=keys.parent).code == 0
    assert public(keys, "studio-2") == public(keys.parent / "new", "studio-2")


def test_rotation_into_another_folder_says_what_belongs_there_too(keys: Path) -> None:
    result = provider("key", "rotate", "keys/studio.pem", "--no-passphrase", "--out", "new", cwd=keys.parent)
    assert public(keys.parent / "new", "studio-2").serial == 2
    assert "beside the new key" in result.err


def test_rotation_does_not_replace_other_files(keys: Path) -> None:
    (keys / "studio-2.pem").write_text("something")
    before = files(keys)
    result = provider("key", "rotate", "keys/studio.pem", "--no-passphrase", cwd=keys.parent)
    assert result.code == 9
    assert files(keys) == before


def _old_pair(folder: Path) -> None:
    key, start = generate_key(), datetime(2020, 1, 1, tzinfo=UTC)
    record = issue_provider_key(key, name="old", roles=("style",), not_before=start, expires=start + timedelta(days=9))
    save_private_key(folder / "old.pem", key, None)
    write_provider_key(folder / "old.mdfykey", record)


def test_expired_key_cannot_be_rotated(tmp_path: Path) -> None:
    _old_pair(tmp_path)
    result = provider("key", "rotate", "old.pem", "--no-passphrase", "--json", cwd=tmp_path)
    assert (result.code, result.json["error"]["code"]) == (6, "E_KEY_EXPIRED")
    assert not (tmp_path / "old-2.mdfykey").exists()


# --- revoke ---------------------------------------------------------------------------------


def test_key_revokes_itself(keys: Path) -> None:
    result = provider(
        "key", "revoke", "keys/studio.pem", "--reason", "laptop stolen", "--out", "end.mdfyrev", cwd=keys.parent
    )
    assert result.code == 0, result.err
    end = read_revocation(keys.parent / "end.mdfyrev").open([public(keys)])
    assert (end.number, end.keys) == (0, {public(keys).fingerprint: "laptop stolen"})
    assert "  content-client trust update end.mdfyrev" in result.out.splitlines()


def test_ready_revocation_is_pointed_at(keys: Path) -> None:
    words = ("key", "revoke", "keys/studio.pem", "--reason", "laptop stolen")
    before = files(keys)
    refused = provider(*words, cwd=keys.parent)
    assert refused.code == 9
    assert "give that file to your clients" in refused.err
    assert files(keys) == before
    assert provider(*words, "--overwrite", cwd=keys.parent).code == 0
    end = read_revocation(keys / "studio.revoke.mdfyrev").open([public(keys)])
    assert list(end.keys.values()) == ["laptop stolen"]


def test_current_key_puts_an_older_one_onto_the_list(keys: Path) -> None:
    rotate(keys)
    (keys / "studio.pem").unlink()  # stolen, or lost
    words = ("key", "revoke", "keys/studio.mdfykey", "--by", "keys/studio-2.pem", "--reason", "stolen")
    result = provider(*words, "--next-update", "90d", "--json", cwd=keys.parent)
    assert result.code == 0, result.err
    listed = read_revocation(keys / "studio.mdfyrev").open([public(keys, "studio-2")])
    assert (listed.number, listed.keys) == (1, {public(keys).fingerprint: "stolen"})
    assert listed.next_update == listed.issued + timedelta(days=90)
    assert result.json["result"]["number"] == 1


@pytest.mark.parametrize("folder", ["keys", "elsewhere"])
def test_new_key_says_again_what_was_listed(keys: Path, folder: str) -> None:
    made = provider("revoke", "ab" * 32, "--reason", "x", "--next-update", "90d", cwd=keys.parent)
    assert made.code == 0, made.err
    result = provider("key", "rotate", "keys/studio.pem", "--no-passphrase", "--out", folder, "--json", cwd=keys.parent)
    assert result.code == 0, result.err
    new = keys.parent / folder
    listed = read_revocation(new / "studio.mdfyrev").open([public(new, "studio-2")])
    assert (listed.number, listed.bundles) == (2, {"ab" * 32: "x"})
    assert listed.next_update is not None
    assert result.json["result"]["update_command"].endswith("studio-2.mdfykey studio.mdfyrev")


def test_third_key_says_again_what_was_listed(keys: Path) -> None:
    assert provider("revoke", "ab" * 32, "--reason", "x", cwd=keys.parent).code == 0
    rotate(keys)
    rotate(keys, "studio-2.pem")
    listed = read_revocation(keys / "studio.mdfyrev").open([public(keys, "studio-3")])
    assert (listed.number, listed.bundles) == (3, {"ab" * 32: "x"})


def test_lists_of_both_folders_are_merged(keys: Path) -> None:
    (keys.parent / "new").mkdir()
    for digest, words in (("ab" * 32, ("--out", "new/studio.mdfyrev")), ("cd" * 32, ())):
        assert provider("revoke", digest, "--reason", "x", *words, cwd=keys.parent).code == 0
    rotate(keys, "studio.pem", "--out", "new")
    listed = read_revocation(keys.parent / "new" / "studio.mdfyrev").open([public(keys, "studio-2")])
    assert (listed.number, listed.bundles.keys()) == (3, {"ab" * 32, "cd" * 32})


def test_list_that_lies_in_the_new_folder_only_is_taken_up(keys: Path) -> None:
    (keys.parent / "new").mkdir()
    words = ("--reason", "x", "--out", "new/studio.mdfyrev")
    assert provider("revoke", "ab" * 32, *words, cwd=keys.parent).code == 0
    (keys / "studio.mdfyrev").unlink()
    rotate(keys, "studio.pem", "--out", "new")
    listed = read_revocation(keys.parent / "new" / "studio.mdfyrev").open([public(keys, "studio-2")])
    assert (listed.number, listed.bundles) == (2, {"ab" * 32: "x"})


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_no_key_is_made_where_its_list_cannot_be(keys: Path, overwrite: tuple[str, ...]) -> None:
    (keys.parent / "new").mkdir()
    (keys.parent / "new" / "studio.mdfyrev").write_text("something")
    before = files(keys), files(keys.parent / "new")
    words = ("key", "rotate", "keys/studio.pem", "--no-passphrase", "--out", "new", *overwrite)
    refused = provider(*words, cwd=keys.parent)
    assert (refused.code, "not a revocation" in refused.err) == (8, True)
    assert (files(keys), files(keys.parent / "new")) == before
    (keys.parent / "new" / "studio.mdfyrev").unlink()
    assert provider(*words, cwd=keys.parent).code == 0


def test_older_key_does_not_speak_for_the_provider(keys: Path) -> None:
    rotate(keys)
    words = ("key", "revoke", "keys/studio-2.mdfykey", "--by", "keys/studio.pem", "--reason", "x")
    result = provider(*words, cwd=keys.parent)
    assert result.code == 2
    assert "not your current key" in result.err
    assert not (keys / "studio.mdfyrev").exists()


def test_current_key_needs_no_list_to_end_itself(keys: Path) -> None:
    words = ("key", "revoke", "keys/studio.pem", "--by", "keys/studio.pem", "--reason", "x")
    result = provider(*words, cwd=keys.parent)
    assert result.code == 2
    assert "leave --by away" in result.err


def test_key_of_another_provider_cannot_be_revoked(keys: Path) -> None:
    assert provider("keygen", "--name", "Other", "--out", "keys", "--no-passphrase", cwd=keys.parent).code == 0
    words = ("key", "revoke", "keys/other.mdfykey", "--by", "keys/studio.pem", "--reason", "x")
    result = provider(*words, cwd=keys.parent)
    assert result.code == 2
    assert "two providers" in result.err


def test_self_revocation_has_no_next_list(keys: Path) -> None:
    words = ("key", "revoke", "keys/studio.pem", "--reason", "x", "--next-update", "90d", "--out", "x.mdfyrev")
    result = provider(*words, cwd=keys.parent)
    assert result.code == 2
    assert not (keys.parent / "x.mdfyrev").exists()


@pytest.mark.parametrize("reason", ["", "a\x1b[31m", "x" * 201])
def test_reason_that_clients_would_refuse(keys: Path, reason: str) -> None:
    words = ("key", "revoke", "keys/studio.pem", "--reason", reason, "--out", "x.mdfyrev")
    assert provider(*words, cwd=keys.parent).code == 8
    assert not (keys.parent / "x.mdfyrev").exists()
