"""Rules B-32, B-36: where keys are, and how their passphrases are asked for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modify_fl.errors import ConfigError
from modify_fl.passphrase import new_passphrase
from protocol.errors import KeyFileError
from protocol.provider import issue_provider_key, rotate_provider_key, write_provider_key
from protocol.signing import generate_key, save_private_key
from style_provider.keys import base_stem, find_key, key_folder, load_pair, provider_keys, slug


def _never(question: str) -> str:
    raise AssertionError(question)


def _pair(folder: Path, stem: str, passphrase: str | None = None) -> Path:
    key, now = generate_key(), datetime(2026, 1, 1, tzinfo=UTC)
    provider = issue_provider_key(key, name=stem, roles=("style",), not_before=now, expires=now + timedelta(days=9))
    path = folder / f"{stem}.pem{'' if passphrase is None else '.age'}"
    folder.mkdir(exist_ok=True)
    save_private_key(path, key, passphrase)
    write_provider_key(folder / f"{stem}.mdfykey", provider)
    return path


@pytest.mark.parametrize(("name", "expected"), [("Studio", "studio"), ("Studio X & Co.", "studio-x-co"), ("9", "9")])
def test_slug(name: str, expected: str) -> None:
    assert slug(name) == expected


def test_a_name_without_letters_is_refused() -> None:
    with pytest.raises(ConfigError, match="gives no file name"):
        slug("???")


def test_local_key_folder_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODIFY_CONFIG", str(tmp_path / "config"))
    assert key_folder() == tmp_path / "config" / "keys"
    (tmp_path / "keys").mkdir()
    assert key_folder() == Path("keys")


def test_only_key_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        find_key()
    assert caught.value.fix.endswith('style-provider keygen --name "My Studio"')
    _pair(tmp_path / "keys", "one")
    assert find_key() == Path("keys/one.pem")
    _pair(tmp_path / "keys", "two")
    with pytest.raises(ConfigError, match="several keys") as caught:
        find_key()
    assert caught.value.why == "one.pem, two.pem"


def _successor(path: Path, stem: str) -> None:
    """Write the key after the one at ``path``."""
    old, new = load_pair(path, None, _never), generate_key()
    start = old.provider.not_before
    record = rotate_provider_key(old.private, old.provider, new, not_before=start, expires=start + timedelta(days=99))
    save_private_key(path.with_name(f"{stem}.pem"), new, None)
    write_provider_key(path.with_name(f"{stem}.mdfykey"), record)


def test_newest_key_of_one_provider_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _successor(_pair(tmp_path / "keys", "one"), "a-later-one")
    assert find_key() == Path("keys/a-later-one.pem")
    _pair(tmp_path / "keys", "two")
    with pytest.raises(ConfigError, match="several keys") as caught:
        find_key()
    assert caught.value.why == "a-later-one.pem, two.pem"


def test_serials_are_compared_as_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = _pair(tmp_path / "keys", "one")
    for serial in range(2, 11):
        _successor(path, f"one-{serial}")
        path = path.with_name(f"one-{serial}.pem")
    assert find_key() == Path("keys/one-10.pem")


def test_protected_form_of_a_key_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Both are there where a change of the passphrase was cut off.
    monkeypatch.chdir(tmp_path)
    _pair(tmp_path / "keys", "one")
    (tmp_path / "keys" / "one.pem.age").touch()
    assert find_key() == Path("keys/one.pem.age")


def test_key_without_its_public_file_is_a_key_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _pair(tmp_path / "keys", "one")
    _pair(tmp_path / "keys", "two")
    (tmp_path / "keys" / "two.mdfykey").write_text("damaged")
    with pytest.raises(ConfigError, match="several keys"):
        find_key()


def test_keys_of_one_provider_are_listed_from_the_oldest(tmp_path: Path) -> None:
    path = _pair(tmp_path, "one")
    _successor(path, "a-later-one")
    _pair(tmp_path, "two")
    (tmp_path / "junk.mdfykey").write_text("junk")
    first = load_pair(path, None, _never).provider
    assert [key.serial for key in provider_keys(tmp_path, first.provider_id)] == [1, 2]


def test_public_file_leads_to_the_private_one(tmp_path: Path) -> None:
    _pair(tmp_path, "one")
    assert load_pair(tmp_path / "one.mdfykey", None, _never).provider.name == "one"


@pytest.mark.parametrize(
    ("name", "serial", "expected"),
    [("studio.pem", 1, "studio"), ("studio-2.pem.age", 2, "studio"), ("studio-2.mdfykey", 1, "studio-2")],
)
def test_name_that_all_keys_of_a_provider_share(name: str, serial: int, expected: str, tmp_path: Path) -> None:
    provider = load_pair(_pair(tmp_path, "x"), None, _never).provider
    assert base_stem(Path(name), replace(provider, serial=serial)) == expected


def test_pair_is_loaded_and_asks_only_when_protected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_pair(_pair(tmp_path, "plain"), None, _never).provider.name == "plain"
    path = _pair(tmp_path, "safe", "secret words")
    asked: list[str] = []
    load_pair(path, None, lambda question: asked.append(question) or "secret words")  # type: ignore[func-returns-value]
    assert asked == ["passphrase of safe.pem.age"]
    monkeypatch.setenv("MDFY_PASSPHRASE", "secret words")
    assert load_pair(path, None, _never).provider.name == "safe"


def test_exchanged_halves_are_refused(tmp_path: Path) -> None:
    one = _pair(tmp_path, "one")
    _pair(tmp_path, "two")
    (tmp_path / "two.mdfykey").replace(tmp_path / "one.mdfykey")
    with pytest.raises(KeyFileError, match="do not belong together"):
        load_pair(one, None, _never)


def test_new_passphrase_is_typed_twice() -> None:
    answers = iter(["abc", "abc", "abc", "abd", ""])
    assert new_passphrase(None, lambda _: next(answers)) == "abc"
    with pytest.raises(ConfigError, match="differ"):
        new_passphrase(None, lambda _: next(answers))
    with pytest.raises(ConfigError, match="empty"):
        new_passphrase(None, lambda _: next(answers))


def test_passphrase_of_the_environment_is_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDFY_PASSPHRASE", "old words")
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        return "new words"

    assert new_passphrase(None, answer, question="new passphrase", environment=False) == "new words"
    assert asked == ["new passphrase", "the same passphrase again"]


def test_new_passphrase_from_file_or_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "passphrase"
    file.write_text("from file\nnot this\n")
    monkeypatch.setenv("MDFY_PASSPHRASE", "from environment")
    assert new_passphrase(file, _never) == "from file"
    assert new_passphrase(None, _never) == "from environment"
    file.write_text("\n")
    with pytest.raises(ConfigError, match="holds no passphrase"):
        new_passphrase(file, _never)
