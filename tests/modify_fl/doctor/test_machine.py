"""This computer without torch: each check passes here and fails where it should."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from modify_fl.doctor import machine
from modify_fl.doctor.report import Check


def _checks(name: str) -> dict[str, Check]:
    return {check.name: check for check in machine.LOOKS[name]()}


def _state(name: str, check: str) -> str:
    found = _checks(name)[check]
    assert (found.state == "ok") == (not found.fix)
    return found.state


def test_nothing_here_imports_torch() -> None:
    code = "import sys; from modify_fl.doctor import machine, shipped; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_old_python_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _state("python", "python") == "ok"
    monkeypatch.setattr(machine, "_PYTHON", (99, 0))
    assert _state("python", "python") == "fail"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("no-such-package>=1", "no-such-package>=1 (missing)"),
        ("numpy>=999", "numpy>=999 ("),
        ("pillow<2", "pillow<2 ("),
    ],
)
def test_a_package_that_is_missing_or_unfit_fails(line: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _state("packages", "packages") == "ok"
    monkeypatch.setattr(machine, "requires", lambda _: [line, "torch>=2.6"])
    assert _state("packages", "packages") == "fail"
    check = _checks("packages")["packages"]
    assert found in check.found
    assert "pip install . in the folder" in check.fix  # the package is on no index


@pytest.mark.parametrize(("package", "state"), [("pillow", "ok"), ("no-such-package", "warn")])
def test_heic_is_said_and_other_extras_are_listed(package: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{package}>=1; extra == 'heic'", "no-such-package; extra == 'onnx'", "numpy; extra == 'evaluate'"]
    monkeypatch.setattr(machine, "requires", lambda _: lines)
    assert _state("extras", "HEIC photos") == state
    listed = _checks("extras")["extras"].found.partition("; not installed: ")
    assert "evaluate" in listed[0]
    assert "onnx" in listed[2]


def test_a_configuration_that_cannot_be_written_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODIFY_CONFIG", str(tmp_path / "deep" / "config"))
    assert _state("folders", "configuration") == "ok"
    assert list(tmp_path.iterdir()) == []  # trying leaves nothing behind
    (tmp_path / "file").touch()
    for place in ("file", "file/below"):  # works for an administrator too, to whom modes mean nothing
        monkeypatch.setenv("MODIFY_CONFIG", str(tmp_path / place))
        assert _state("folders", "configuration") == "fail"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder in which nobody can write")
def test_a_current_folder_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _state("folders", "current folder") == "ok"
    monkeypatch.chdir("/proc/self")
    assert _state("folders", "current folder") == "warn"


@pytest.mark.parametrize(("free", "state"), [(10**10, "ok"), (10**9, "warn"), (10**7, "fail")])
def test_free_space(free: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert _state("folders", "free space") == state


@pytest.mark.parametrize(("encoding", "state"), [("UTF-8", "ok"), ("utf8", "ok"), ("ANSI_X3.4-1968", "warn")])
def test_texts_that_are_not_utf8_are_told(encoding: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.locale, "getpreferredencoding", lambda do_setlocale: encoding)
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(encoding="utf-8"))
    assert _state("texts", "texts") == state
