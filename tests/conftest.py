"""Fixtures for all tests: outside data or a stated reason to skip, and an isolated home.

No test reads or writes the configuration of the user who runs it, and none
needs the network.
"""

import os
from pathlib import Path

import pytest

from modify_fl.federated.environment import set_environment

_CHECKOUT = Path(__file__).resolve().parent.parent
_SHARED = _CHECKOUT.parent / "shared"
_ENVIRONMENT = dict(os.environ)  # as given by the user, before any test isolates itself
_USERS = ("MODIFY_DATA", "MODIFY_PHOTOS", "MDFY_PASSPHRASE", "TORCH_HOME", "SOURCE_DATE_EPOCH")
for _name in _USERS:  # at once, since some fixtures are made once for all tests
    os.environ.pop(_name, None)
set_environment()  # before any test imports Flower (F-4)


def _folder(variables: tuple[str, ...], default: Path, what: str) -> Path:
    named = next((_ENVIRONMENT[name] for name in variables if _ENVIRONMENT.get(name)), None)
    folder = Path(named) if named else default
    if not folder.is_dir():
        pytest.skip(f"needs {what}: set {' or '.join(variables)}, or put them into {default.name} beside the checkout")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real faces (never copied into the repository)."""
    return _folder(("MODIFY_DATA",), _SHARED / "data", "real faces")


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """Folder of pretrained perceptual networks in the layout of TORCH_HOME."""
    return _folder(("MODIFY_WEIGHTS", "TORCH_HOME"), _SHARED / "weights", "perceptual networks")


@pytest.fixture(scope="session")
def shared_vectors() -> Path:
    """Folder of test vectors of other projects."""
    return _folder(("MODIFY_VECTORS",), _SHARED / "vectors", "test vectors")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # Small networks gain nothing from threads, and sums come out in one order (M-40).
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _isolated_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("MODIFY_CONFIG", str(home / "config"))
    monkeypatch.setenv("MODIFY_DATA_DIR", str(home / "data"))


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A provider's folder, made once: ``keys/``, and ``style.mdfy`` with tiny networks; do not write into it."""
    import programs

    folder = tmp_path_factory.mktemp("studio")
    made = programs.provider("keygen", "--name", "Studio", "--out", "keys", "--no-passphrase", cwd=folder)
    assert made.code == 0, made.err
    packed = programs.provider(
        "package", "--dataset", "synthetic", "--limit", "12", "--budget", "4steps", "--out", "style.mdfy",
        *programs.PACKAGE, *programs.QUICK, cwd=folder,
    )  # fmt: skip
    assert packed.code == 0, packed.err
    return folder
