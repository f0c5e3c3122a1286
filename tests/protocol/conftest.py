"""Fixtures of the protocol tests."""

import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # the helpers in bundlekit.py belong to this folder only

settings.register_profile("protocol", derandomize=True, deadline=None, database=None)
settings.load_profile("protocol")

from bundlekit import STUDIO, write_style  # noqa: E402 - after the path is known

from protocol.trust import TrustStore  # noqa: E402


@pytest.fixture(scope="session")
def style_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small signed style bundle."""
    path = tmp_path_factory.mktemp("style") / "style.mdfy"
    write_style(path)
    return path.read_bytes()


@pytest.fixture
def style_path(tmp_path: Path, style_bytes: bytes) -> Path:
    """A fresh copy of the small signed style bundle."""
    path = tmp_path / "style.mdfy"
    path.write_bytes(style_bytes)
    return path


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> TrustStore:
    """A store of either kind that accepts the first key of one provider."""
    store = TrustStore(tmp_path / "trust") if request.param == "folder" else TrustStore.of()
    store.add(STUDIO, label="nord")
    return store
