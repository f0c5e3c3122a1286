"""F-37: the same app in Flower's own simulation, with Ray's processes as sites."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from programs import QUICK, client, draw_photos

from protocol.verify import inspect_bundle

NAMES = ("north", "south", "west")
WORDS = (
    "federate", "simulate", "style.mdfy", *(word for name in NAMES for word in ("--site", name)), "--no-align",
    "--rounds", "2", "--local-steps", "1", "--set", "batch=2", *QUICK,
)  # fmt: skip


@pytest.fixture
def sites(desk: Path) -> Path:
    for at, name in enumerate(NAMES):
        draw_photos(desk / name, 3, first=10 * at)
    return desk


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason='needs Ray: pip install "modify-fl[ray]"')
def test_ray_makes_the_model_that_one_process_makes(sites: Path) -> None:
    ray = client(*WORDS, "--backend", "ray", "--out", "ray.mdfa", cwd=sites)
    assert ray.code == 0, ray.err
    local = client(*WORDS, "--out", "local.mdfa", cwd=sites)
    assert local.code == 0, local.err
    model = "checkpoints/00000002/model.safetensors"
    assert (sites / "ray.mdfa.run" / model).stat().st_size == (sites / "local.mdfa.run" / model).stat().st_size
    manifests = [inspect_bundle(sites / name).manifest for name in ("ray.mdfa", "local.mdfa")]
    assert manifests[0].model.trainable == manifests[1].model.trainable
    assert manifests[0].federation is not None
    assert manifests[0].federation.rounds == 2


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_extra_is_named(sites: Path) -> None:
    refused = client(*WORDS, "--backend", "ray", cwd=sites)
    assert refused.code == 12
    assert 'pip install "modify-fl[ray]"' in refused.err


def test_what_rays_processes_would_not_hear_of_is_refused(sites: Path) -> None:
    for words in (("--set", "lambda_id=0.5"), ("--privacy", "dp", "--n-public", "6", "--batch", "3")):
        refused = client(*WORDS, "--backend", "ray", *words, cwd=sites)
        assert refused.code == 2
        assert "does not go with --backend ray" in refused.err
