"""F-6, F-7: one small app, built the same way everywhere, known by its digest."""

import hashlib
import io
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from modify_fl.artifacts import LoadedStyle
from modify_fl.errors import FederationSetupError
from modify_fl.federated import fab
from modify_fl.federated.compat import build_fab
from modify_fl.federated.fab import APP_FOLDER, FAB_SHA256, fab_bytes


def test_the_published_digest_is_that_of_the_folder() -> None:
    assert hashlib.sha256(fab_bytes()).hexdigest() == FAB_SHA256


def test_times_and_places_of_files_do_not_matter(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(APP_FOLDER, tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__")))
    for path in copy.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    assert hashlib.sha256(build_fab(copy)).hexdigest() == FAB_SHA256


def test_nothing_travels_but_the_app() -> None:
    names = set(zipfile.ZipFile(io.BytesIO(fab_bytes())).namelist())
    assert names == {
        "pyproject.toml", "LICENSE", ".info/CONTENT", "modify_fl_app/__init__.py", "modify_fl_app/client_app.py",
        "modify_fl_app/server_app.py",
    }  # fmt: skip


def test_a_changed_app_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copytree(APP_FOLDER, tmp_path / "app"))
    (copy / "modify_fl_app" / "client_app.py").write_text("app = None\n")
    monkeypatch.setattr(fab, "APP_FOLDER", copy)
    with pytest.raises(FederationSetupError, match="not the published one"):
        fab_bytes()


def test_a_signed_style_names_the_app(style: LoadedStyle) -> None:
    assert style.manifest.federation is not None
    assert style.manifest.federation.fab_sha256 == (FAB_SHA256,)
