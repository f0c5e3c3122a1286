"""A client's folder: the bundle, photos, and a trust store that accepts the provider."""

import shutil
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from programs import client, draw_photos

from protocol.manifest import Usage
from protocol.provider import read_provider_key
from protocol.publish import write_bundle
from protocol.signing import load_private_key
from protocol.trust import TrustStore
from protocol.verify import open_bundle


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


@pytest.fixture
def publish(studio: Path) -> Callable[..., str]:
    """Sign the studio's style again as another one; returns its digest."""
    key = load_private_key(studio / "keys" / "studio.pem")
    provider = read_provider_key(studio / "keys" / "studio.mdfykey")

    def write(path: Path, usage: Usage, *, recipients: tuple[str, ...] = (), **bundle: object) -> str:
        trust = TrustStore.of(provider)
        with open_bundle(studio / "style.mdfy", trust=trust, now=datetime.now(UTC)) as style:
            files = style.manifest.model.weights
            info = replace(style.manifest.bundle, **({"id": str(uuid.uuid4())} | bundle))  # type: ignore[arg-type]
            return write_bundle(
                path,
                manifest=replace(style.manifest, bundle=info, usage=usage),
                members={file.file: style.read(file.file) for file in files},
                abs_max={file.file: file.abs_max for file in files},
                key=key,
                provider=provider,
                recipients=recipients,
            )

    return write
