"""``style-provider doctor``: the signing key, and the command as a whole."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from programs import provider

from modify_fl.doctor.keys import lifetime_trouble
from modify_fl.doctor.report import Check
from protocol.errors import KeyFileError
from style_provider import health


def _key() -> Check:
    (check,) = health.LOOKS["signing key"]()
    return check


def test_the_whole_command(tmp_path: Path) -> None:
    done = provider("doctor", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    states = {check["name"]: check["state"] for check in done.json["result"]["checks"]}
    assert states["signing key"] == "warn"
    assert states["offline"] == "ok"
    assert "trust store" not in states


def test_a_signing_key_is_shown_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "style-provider keygen" in _key().fix
    assert provider("keygen", "--name", "S", "--out", "keys", "--no-passphrase", cwd=tmp_path).code == 0
    assert _key().state == "ok"
    assert _key().found.startswith("SHA256:")
    (tmp_path / "keys" / "s.pem").chmod(0o644)
    with pytest.raises(KeyFileError, match="open to others"):
        _key()


@pytest.mark.parametrize(("days", "start"), [(-1, "expired on"), (59, "expires on"), (61, "")])
def test_the_end_of_a_key_is_told_two_months_before(days: int, start: str) -> None:
    trouble = lifetime_trouble(datetime.now(UTC) + timedelta(days=days))
    assert trouble.startswith(start)
    assert bool(trouble) is bool(start)


def test_a_key_at_its_end_is_to_be_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert provider("keygen", "--name", "S", "--out", "keys", "--no-passphrase", cwd=tmp_path).code == 0
    monkeypatch.setattr(health, "lifetime_trouble", lambda _: "expires on 2026-01-01")
    assert (_key().state, _key().fix) == ("warn", "run style-provider key rotate")


def test_a_key_whose_successor_is_elsewhere_is_not_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert provider("keygen", "--name", "S", "--out", "keys", "--no-passphrase", cwd=tmp_path).code == 0
    assert provider("key", "rotate", "keys/s.pem", "--out", "new", "--no-passphrase", cwd=tmp_path).code == 0
    assert (_key().state, _key().found) == ("warn", "s.pem is not your current key")
