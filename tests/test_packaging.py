"""What is built, and whether it works where the repository is not (issue of the first ten minutes, U-42)."""

import json
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("protocol", "modify_fl", "style_provider", "content_client")
_PROGRAMS = ("style-provider", "content-client")

pytestmark = pytest.mark.slow


def _run(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run([*map(str, words)], cwd=cwd, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a source distribution of the repository and a wheel that was built from it."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        pytest.skip("needs uv, which make install brings")
    folder = tmp_path_factory.mktemp("dist")
    _run(uv, "build", "--out-dir", folder, _ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def bin_folder(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs of an environment that has the wheel, and from this one the dependencies alone."""
    home = tmp_path_factory.mktemp("clean")
    _run(sys.executable, "-m", "venv", "--without-pip", home, cwd=home)
    (wheel,) = built.glob("*.whl")
    programs = home / ("Scripts" if sys.platform == "win32" else "bin")
    python = programs / "python"
    _run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=home)
    site = _run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip()
    # A folder that a .pth file names is searched, but its own .pth files are not: our editable install stays out.
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return programs


def test_the_wheel_holds_the_packages_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == set(_PACKAGES)
    sources = {path.relative_to(_ROOT).as_posix() for p in _PACKAGES for path in (_ROOT / p).rglob("*.py")}
    assert sources <= names
    assert {f"{package}/py.typed" for package in _PACKAGES} <= names
    assert {"modify_fl/base/base-64.safetensors", "modify_fl/base/base-64.json", "protocol/SPEC.md"} <= names
    app = "modify_fl/federated/flower_app"  # its archive is made of these, and known by its digest (F-7)
    assert {f"{app}/pyproject.toml", f"{app}/LICENSE"} <= names
    assert not [name for name in names if name.endswith((".pyc", ".pem", ".png"))]
    assert "Requires-Python: >=3.11" in metadata


def test_the_source_distribution_holds_no_private_file(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "tests/conftest.py"} <= names
    assert not [name for name in names if name.endswith((".pem", ".agekey", ".mdfa", ".pyc")) or ".run/" in name]


def test_both_programs_run_without_the_repository(bin_folder: Path, tmp_path: Path) -> None:
    where = _run(bin_folder / "python", "-c", "import modify_fl; print(modify_fl.__file__)", cwd=tmp_path).strip()
    assert bin_folder.parent in Path(where).parents
    for program in _PROGRAMS:
        assert f"Usage: {program}" in _run(bin_folder / program, "--help", cwd=tmp_path)


def test_the_base_model_of_the_wheel_is_whole(bin_folder: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [bin_folder / "content-client", "doctor", "--json"], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    body = json.loads(done.stdout)
    checks = body.get("result", body.get("error"))["checks"]
    assert {check["name"]: check["state"] for check in checks}["base model base-64"] == "ok"
