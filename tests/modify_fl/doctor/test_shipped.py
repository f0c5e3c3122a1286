"""Models that come with packages: changed or missing files are noticed."""

import base64
import hashlib
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from modify_fl.base.card import HOME
from modify_fl.doctor import shipped
from modify_fl.doctor.report import Check
from modify_fl.ready import ready_bundles


def _only(name: str) -> Check:
    (check,) = shipped.LOOKS[name]()
    assert (check.state == "ok") == (not check.fix)
    return check


def test_the_detector_is_that_of_its_wheel() -> None:
    assert _only("face detector").state == "ok"


@pytest.mark.parametrize("damage", ["none", "changed", "missing", "unlisted"])
def test_a_damaged_detector_fails(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []
    for name in ("onet.pt", "pnet.pt", "rnet.pt"):
        path = tmp_path / name
        path.write_bytes(name.encode())
        value = base64.urlsafe_b64encode(hashlib.sha256(name.encode()).digest()).decode().rstrip("=")
        entry = SimpleNamespace(name=name, hash=SimpleNamespace(mode="sha256", value=value), locate=lambda p=path: p)
        listed.append(entry)
    if damage == "changed":
        (tmp_path / "pnet.pt").write_bytes(b"other")
    elif damage == "missing":
        (tmp_path / "pnet.pt").unlink()
    elif damage == "unlisted":
        del listed[1]
    monkeypatch.setattr(shipped, "files", lambda _: listed)
    check = _only("face detector")
    assert check.state == ("ok" if damage == "none" else "fail")
    assert ("pnet.pt" in check.found) is (damage != "none")


@pytest.mark.parametrize(
    ("damage", "state"), [("none", "ok"), ("changed", "fail"), ("missing", "fail"), ("gone", "warn")]
)
def test_a_base_is_compared_with_its_record(
    damage: str, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if damage != "gone":
        shutil.copy(HOME / "base-64.json", tmp_path)
        shutil.copy(HOME / "base-64.safetensors", tmp_path)
    if damage == "changed":
        with (tmp_path / "base-64.safetensors").open("ab") as stream:
            stream.write(b"x")
    elif damage == "missing":
        (tmp_path / "base-64.safetensors").unlink()
    monkeypatch.setattr(shipped, "HOME", tmp_path)
    assert _only("base model").state == state


@pytest.mark.parametrize("damage", ["none", "changed", "key"])
def test_a_ready_style_is_compared_with_its_signature(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copy(ready_bundles()["paintings"], tmp_path))
    if damage == "changed":
        content = bytearray(copy.read_bytes())
        content[len(content) // 2] ^= 1
        copy.write_bytes(content)
    monkeypatch.setattr(shipped, "ready_bundles", lambda: {"paintings": copy})
    monkeypatch.setattr(shipped, "DEMO_KEY", tmp_path / "none.mdfykey" if damage == "key" else shipped.DEMO_KEY)
    assert _only("ready styles").state == ("ok" if damage == "none" else "fail")
