"""A provider, tiny networks as stage 1 leaves them, and bundles made of both."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from modify_fl.artifacts import Adapted, Encapsulated, LoadedStyle, TrainingSummary
from modify_fl.bundle import Release, load_style, write_style_bundle
from modify_fl.config import Preset
from modify_fl.networks.discriminator import build_discriminator
from modify_fl.networks.model import StyleModel
from modify_fl.perceptual import NetRecord
from protocol.provider import ProviderKey
from protocol.publish import write_bundle
from protocol.signing import PrivateKey, generate_key
from protocol.trust import TrustStore
from protocol.verify import VerifiedBundle, open_bundle
from tests.modify_fl.training.conftest import NETWORK, new_provider

SUMMARY = TrainingSummary(
    images_seen=8, steps=2, seconds=1.0, seed=0, perceptual=NetRecord(name="dis-features"),
    identity=NetRecord(name="laplacian"), compute="cpu",
)  # fmt: skip
RELEASE = Release(name="drawn", description="drawn faces", images=120, dataset_licence="Apache-2.0")


@pytest.fixture
def owner() -> tuple[PrivateKey, ProviderKey]:
    """A provider's key pair."""
    key = generate_key()
    return key, new_provider(key)


@pytest.fixture
def made(tmp_path: Path) -> Encapsulated:
    """Networks as stage 1 leaves them, with a trained look: an offset that is not zero."""
    model = StyleModel.build(NETWORK, 3)
    with torch.no_grad():
        model.offset.w_avg.normal_(generator=torch.Generator().manual_seed(0))
    model.eval().requires_grad_(requires_grad=False)
    return Encapsulated(
        model=model, discriminator=build_discriminator(NETWORK, 3), preset=Preset(name="tiny", network=NETWORK),
        summary=SUMMARY, folder=tmp_path,
    )  # fmt: skip


def opened(path: Path, provider: ProviderKey) -> VerifiedBundle:
    return open_bundle(path, trust=TrustStore.of(provider), now=datetime.now(UTC))


def contents(path: Path, provider: ProviderKey) -> tuple[dict[str, bytes], dict[str, float]]:
    """Return the weight files of a bundle and their signed bounds."""
    with opened(path, provider) as bundle:
        files = bundle.manifest.model.weights
        return {file.file: bundle.read(file.file) for file in files}, {file.file: file.abs_max for file in files}


def publish(folder: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey], name: str = "a") -> LoadedStyle:
    path = folder / f"{name}.mdfy"
    write_style_bundle(path, made, release=RELEASE, key=owner[0], provider=owner[1], overwrite=False)
    with opened(path, owner[1]) as bundle:
        return load_style(bundle)


def adapted(style: LoadedStyle, names: tuple[str, ...] = ("heads.0.weight", "heads.0.bias")) -> Adapted:
    state = style.model.encoder.state_dict()
    return Adapted(tensors={n: state[n] + 1 for n in names}, mode="offline", subset="heads", summary=SUMMARY)


def repack(folder: Path, style: LoadedStyle, owner: tuple[PrivateKey, ProviderKey], change: str, value: float) -> Path:
    """Sign a bundle whose weights a dishonest but trusted provider changed after measuring them."""
    members, bounds = contents(folder / "a.mdfy", owner[1])
    tensors = load(members["weights/generator.safetensors"])
    tensors[change].view(-1)[0] = value
    members["weights/generator.safetensors"] = save(tensors)
    path = folder / "b.mdfy"
    write_bundle(
        path, manifest=style.manifest, members=members, abs_max=bounds, key=owner[0], provider=owner[1], overwrite=False
    )
    return path
