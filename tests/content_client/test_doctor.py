"""``content-client doctor``: trust store, own keys, and the command as a whole."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from programs import QUICK, client

from content_client import health
from modify_fl.doctor.report import Check
from protocol.errors import KeyFileError
from protocol.trust import TrustStore, config_folder


def _checks(name: str) -> dict[str, Check]:
    return {check.name: check for check in health.LOOKS[name]()}


def test_the_whole_command(desk: Path) -> None:
    before = {path: path.read_bytes() for path in config_folder().rglob("*") if path.is_file()}
    done = client("doctor", cwd=desk)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    names = {line[6:28].strip() for line in lines if line[:6].strip() in {"ok", "warn", "fail"}}
    assert names >= {
        "python", "packages", "extras", "HEIC photos", "configuration", "current folder", "free space", "texts",
        "trust store", "own keys", "face detector", "base model base-64", "device", "bfloat16", "threads", "load",
        "LPIPS", "face network", "face net for figures", "Inception for FID", "offline",
    }  # fmt: skip
    assert "1 providers of styles accepted" in done.out
    assert {path: path.read_bytes() for path in config_folder().rglob("*") if path.is_file()} == before


def test_json_has_no_path(desk: Path) -> None:
    done = client("doctor", "--json", cwd=desk)
    assert done.code == 0
    result = done.json["result"]
    assert {"ok", "warn", "fail", "checks"} == set(result)
    assert str(desk) not in done.out
    assert re.search(r"(?<!\w)/\w+/", json.dumps(result)) is None


def test_a_damaged_trust_store_fails_with_exit_code_12(desk: Path) -> None:
    (config_folder() / "trust" / "pins.json").write_text("{")
    done = client("doctor", "--json", cwd=desk)
    assert (done.code, done.json["error"]["code"]) == (12, "E_DOCTOR")
    (failed,) = [check for check in done.json["result"]["checks"] if check["state"] == "fail"]
    assert failed["name"] == "trust store"
    assert "pins.json is damaged" in failed["found"]
    assert failed["fix"] == "move the file away and pin the keys again"


def test_nobody_accepted_is_told() -> None:
    check = _checks("trust store")["trust store"]
    assert check.state == "warn"
    assert "content-client trust add" in check.fix


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, ""),
        ({"disputed": True}, "in dispute"),
        ({"revoked": "stolen"}, "revoked: stolen"),
        ({"days": 30}, "expires on"),
        ({"days": -1}, "expired on"),
    ],
)
def test_keys_in_trouble_are_told(
    change: dict[str, object], found: str, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pin,) = TrustStore.default().list()
    days = change.pop("days", None)
    key = pin.key if days is None else replace(pin.key, expires=datetime.now(UTC) + timedelta(days=days))  # type: ignore[arg-type]
    changed = replace(pin, key=key, **change)  # type: ignore[arg-type]
    monkeypatch.setattr(TrustStore, "list", lambda _: (changed,))
    checks = _checks("trust store")
    if not found:
        assert list(checks) == ["trust store"]
        return
    assert checks[f"key of {pin.label}"].state == "warn"
    assert checks[f"key of {pin.label}"].found.startswith(found)


def test_a_lost_record_is_told(desk: Path) -> None:
    (config_folder() / "trust" / "state.json").unlink()
    found = [check.found for check in health.LOOKS["trust store"]() if check.state == "warn"]
    assert ["W_STATE_RESET" in text for text in found] == [True]


def test_own_keys_that_are_open_to_others_fail(desk: Path) -> None:
    assert "no adapter key yet" in _checks("own keys")["own keys"].found
    assert client("adapt", "--no-align", "--bundle", "style.mdfy", "--budget", "1steps", *QUICK, cwd=desk).code == 0
    assert client("trust", "identity", "--no-passphrase", cwd=desk).code == 0
    assert "an identity for styles sent to you; adapter key until" in _checks("own keys")["own keys"].found
    for name in ("adapter.pem", "client.agekey"):
        path = config_folder() / "identity" / name
        path.chmod(0o644)
        with pytest.raises(KeyFileError, match="open to others"):
            _checks("own keys")
        path.chmod(0o600)


def test_a_key_of_the_client_itself_counts_as_no_provider(desk: Path) -> None:
    assert client("adapt", "--no-align", "--bundle", "style.mdfy", "--budget", "1steps", *QUICK, cwd=desk).code == 0
    assert len(TrustStore.default().list()) == 2
    assert _checks("trust store")["trust store"].found == "1 providers of styles accepted"


def test_a_wrong_torch_home_fails(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = desk / "weights" / "checkpoints" / "20180402-114759-vggface2.pt"
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(b"no network")
    monkeypatch.setenv("TORCH_HOME", str(desk / "weights"))
    done = client("doctor", cwd=desk)
    assert done.code == 12
    assert "fail  networks of training" in done.out
    assert "1 of " in done.err
