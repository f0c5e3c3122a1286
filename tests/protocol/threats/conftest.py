"""A client under attack: whatever is refused leaves its folder and its trust store as they were."""

from collections.abc import Callable
from pathlib import Path

import pytest
from attackkit import snapshot
from bundlekit import NOW, STUDIO

from protocol.errors import ProtocolError
from protocol.trust import TrustStore
from protocol.verify import open_bundle, verify_bundle


@pytest.fixture
def store(tmp_path: Path) -> TrustStore:
    """A trust store on disk in which the studio is pinned."""
    trust = TrustStore(tmp_path / "trust")
    trust.add(STUDIO)
    return trust


@pytest.fixture
def refused(tmp_path: Path, store: TrustStore) -> Callable[..., str]:
    """Try both doors with a file that must be refused; returns the code."""

    def attempt(data: bytes, *, now: object = NOW, identity: object = None) -> str:
        path = tmp_path / "attack.mdfy"
        path.write_bytes(data)
        before = snapshot(tmp_path)
        codes = set()
        for door in (verify_bundle, open_bundle):
            with pytest.raises(ProtocolError) as caught:
                door(path, trust=store, now=now, identity=identity)  # type: ignore[operator]
            assert caught.value.exit_code not in {0, 1}
            assert caught.value.step is not None
            codes.add(caught.value.code)
        assert snapshot(tmp_path) == before
        assert len(codes) == 1
        return codes.pop()

    return attempt
