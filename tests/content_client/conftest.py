"""A client's folder: the bundle, photos, and a trust store that accepts the provider."""

import shutil
from pathlib import Path

import pytest
from programs import client, draw_photos

from protocol.provider import read_provider_key


@pytest.fixture
def desk(studio: Path, tmp_path: Path) -> Path:
    """Folder with ``style.mdfy``, its provider accepted, and two photos in ``photos``."""
    shutil.copy(studio / "style.mdfy", tmp_path)
    key = studio / "keys" / "studio.mdfykey"
    fingerprint = read_provider_key(key).fingerprint
    accepted = client("trust", "add", key, "--fingerprint", fingerprint, cwd=tmp_path)
    assert accepted.code == 0, accepted.err
    draw_photos(tmp_path / "photos", 2)
    return tmp_path
