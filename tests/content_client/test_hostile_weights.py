"""Bundles of a trusted signer whose weights must not be used (B-25 step 13)."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from programs import QUICK, client
from safetensors.torch import load, save

from protocol.provider import read_provider_key
from protocol.publish import write_bundle
from protocol.signing import load_private_key
from protocol.trust import TrustStore
from protocol.verify import open_bundle


def _poison(studio: Path, target: Path) -> None:
    """Sign the studio's bundle again with one weight that is not a number."""
    key = load_private_key(studio / "keys" / "studio.pem")
    provider = read_provider_key(studio / "keys" / "studio.mdfykey")
    with open_bundle(studio / "style.mdfy", trust=TrustStore.of(provider), now=datetime.now(UTC)) as bundle:
        files = bundle.manifest.model.weights
        members = {file.file: bundle.read(file.file) for file in files}
        manifest = bundle.manifest
    tensors = load(members["weights/encoder.safetensors"])
    tensors["encoder.stem.weight"].view(-1)[0] = float("nan")
    members["weights/encoder.safetensors"] = save(tensors)
    fresh = replace(manifest, bundle=replace(manifest.bundle, name="poisoned"))
    bounds = {file.file: file.abs_max for file in files}
    write_bundle(target, manifest=fresh, members=members, abs_max=bounds, key=key, provider=provider)


@pytest.mark.parametrize(
    "words",
    [
        ("stylize", "--no-align", "--bundle", "nan.mdfy", "photos", "--out", "out"),
        (
            "adapt",
            "--no-align",
            "--bundle",
            "nan.mdfy",
            "--photos",
            "photos",
            "--out",
            "a.mdfa",
            "--budget",
            "2steps",
            *QUICK,
        ),
    ],
)
def test_nan_weight_is_refused_and_writes_nothing(words: tuple[str, ...], studio: Path, desk: Path) -> None:
    _poison(studio, desk / "nan.mdfy")
    before = sorted(desk.rglob("*"))
    refused = client(*words, cwd=desk)
    assert refused.code == 7
    assert "not finite" in refused.err
    assert "Traceback" not in refused.err
    assert sorted(desk.rglob("*")) == before
