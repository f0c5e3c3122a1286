"""Small networks, a small style set and a plain runtime for training tests."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch

from modify_fl.artifacts import LoadedStyle
from modify_fl.bundle import Release, load_style, write_style_bundle
from modify_fl.config import (
    Budget,
    CriticConfig,
    EncapsulationConfig,
    NetworkConfig,
    Preset,
    Runtime,
    StylizationConfig,
)
from modify_fl.data import ImageSet, load_images
from modify_fl.perceptual import PerceptualNets
from modify_fl.training.encapsulation import encapsulate
from protocol.provider import ProviderKey, issue_provider_key
from protocol.signing import PrivateKey, generate_key
from protocol.trust import TrustStore
from protocol.verify import open_bundle

RUNTIME = Runtime(device="cpu", threads=1, precision="fp32")

NETWORK = NetworkConfig(
    resolution=32, w_dim=16, z_dim=16, channel_base=256, channel_max=16, enc_base=256, enc_max=16, pyramid=16,
    trunk=16, remap_layers=2, remap_width=16,
)  # fmt: skip


@pytest.fixture(scope="session")
def paintings() -> ImageSet:
    """Twelve drawn paintings at 32 pixels."""
    return load_images("synthetic", resolution=32, look="painting", limit=12)


@pytest.fixture(scope="session")
def photos() -> ImageSet:
    """Eight drawn photos at 32 pixels."""
    return load_images("synthetic", resolution=32, look="photo", limit=8)


@pytest.fixture
def tiny() -> Callable[..., Preset]:
    """Return a function that builds a preset of tiny networks; keywords change the recipe of stage 1."""

    def build(*, network: NetworkConfig = NETWORK, **changes: object) -> Preset:
        recipe = replace(EncapsulationConfig(batch=4, ema_half_life=40), **changes)  # type: ignore[arg-type]
        return Preset(
            name="tiny",
            network=network,
            encapsulation=recipe,
            stylization=StylizationConfig(batch=2, steps=4, online_steps=4),
        )

    return build


@pytest.fixture
def paper_recipe() -> dict[str, object]:
    """What distinguishes the paper's recipe, on tiny networks (M-31)."""
    return {
        "critic": CriticConfig(adversary="wgan-lp", penalty=10.0, penalty_every=1, augment=False),
        "lambda_l1": 0.0, "lambda_mom": 0.0, "lambda_id": 1.0, "identity_start": 0.0,
        "parts": (0.0, 0.0, 0.75, 0.25), "discriminator_start": 0.0,
        "betas": (0.9, 0.999), "cosine": False, "ema_half_life": 0, "learning_rate": 1e-4,
    }  # fmt: skip


@pytest.fixture(scope="session")
def no_nets() -> PerceptualNets:
    """Neither LPIPS nor a face network: the declared fallbacks of M-41 and M-42."""
    return PerceptualNets.find(Path("/nowhere"))


def equal_states(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """Return whether two networks hold the same bits."""
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def new_provider(key: PrivateKey) -> ProviderKey:
    """Return a fresh provider record that may sign both kinds."""
    now = datetime.now(UTC).replace(microsecond=0)
    return issue_provider_key(
        key,
        name="Studio",
        roles=("style", "adapter"),
        not_before=now - timedelta(days=1),
        expires=now + timedelta(days=30),
    )


def _publish(folder: Path, images: ImageSet, preset: Preset, nets: PerceptualNets) -> LoadedStyle:
    """Train two steps, write the bundle, verify and load it: the only way to a style."""
    made = encapsulate(
        images, preset=preset, budget=Budget.parse("2steps"), seed=1, runtime=RUNTIME, nets=nets,
        folder=folder / "run", emit=lambda _: None,
    )  # fmt: skip
    key = generate_key()
    provider = new_provider(key)
    release = Release(name="test", description="drawn faces", images=len(images), dataset_licence="Apache-2.0")
    write_style_bundle(folder / "test.mdfy", made, release=release, key=key, provider=provider, overwrite=False)
    with open_bundle(folder / "test.mdfy", trust=TrustStore.of(provider), now=datetime.now(UTC)) as bundle:
        return load_style(bundle)


@pytest.fixture(scope="session")
def style(tmp_path_factory: pytest.TempPathFactory, paintings: ImageSet, no_nets: PerceptualNets) -> LoadedStyle:
    """A tiny style that went through a signed bundle."""
    recipe = EncapsulationConfig(batch=4, ema_half_life=40)
    return _publish(
        tmp_path_factory.mktemp("style"), paintings, Preset(name="tiny", network=NETWORK, encapsulation=recipe), no_nets
    )


@pytest.fixture(scope="session")
def wgan_style(tmp_path_factory: pytest.TempPathFactory, paintings: ImageSet, no_nets: PerceptualNets) -> LoadedStyle:
    """The same with the paper's adversary."""
    critic = CriticConfig(adversary="wgan-lp", penalty=10.0, penalty_every=1, augment=False)
    recipe = EncapsulationConfig(batch=4, ema_half_life=0, critic=critic)
    return _publish(
        tmp_path_factory.mktemp("wgan"), paintings, Preset(name="tiny", network=NETWORK, encapsulation=recipe), no_nets
    )
