"""Fixtures for federated rounds."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from modify_fl.artifacts import LoadedStyle
from modify_fl.bundle import load_style
from protocol.provider import read_provider_key
from protocol.trust import TrustStore
from protocol.verify import open_bundle


@pytest.fixture(scope="session")
def style(studio: Path) -> LoadedStyle:
    provider = read_provider_key(studio / "keys" / "studio.mdfykey")
    with open_bundle(studio / "style.mdfy", trust=TrustStore.of(provider), now=datetime.now(UTC)) as bundle:
        return load_style(bundle, record=False)
