"""From a signed bundle to networks (B-18, B-25 steps 12 to 14, M-39)."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from modify_fl.artifacts import Encapsulated
from modify_fl.bundle import load_adapter, load_style, write_adapter
from modify_fl.faces.align import template_digest
from modify_fl.style import Style
from modify_fl.styles import Controls, seeded
from protocol.encryption import Identity, encrypt_stream, generate_identity
from protocol.errors import PolicyError, ProtocolError, TensorError
from protocol.provider import ProviderKey
from protocol.publish import write_bundle
from protocol.signing import PrivateKey
from protocol.trust import TrustStore
from protocol.verify import open_bundle
from tests.modify_fl.bundle.conftest import adapted, contents, opened, publish, repack
from tests.modify_fl.training.conftest import NETWORK


def test_networks_come_back(tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey]) -> None:
    """What is loaded paints what was packed, to 1e-5 because the gains were folded (M-19)."""
    style = publish(tmp_path, made, owner)
    photos = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    before = made.model.decode(made.model.encode(photos))
    assert torch.allclose(style.model.decode(style.model.encode(photos)), before, atol=1e-5)
    z = torch.randn(2, 16, generator=torch.Generator().manual_seed(2))
    assert torch.equal(style.model.remap(z), made.model.remap(z))
    assert style.discriminator is not None
    assert torch.equal(style.discriminator(photos), made.discriminator(photos))
    assert style.network == NETWORK
    assert style.critic == made.preset.encapsulation.critic
    assert not any(p.requires_grad for p in style.model.parameters())


@pytest.mark.parametrize(("named", "ours"), [("ours", True), (None, True), ("0" * 64, False)])
def test_bundle_says_how_its_faces_are_aligned(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey], named: str | None, ours: bool
) -> None:
    """U-62: the template's digest is signed; a bundle of another template loads, and says so."""
    style = publish(tmp_path, made, owner)
    assert style.manifest.model.alignment_sha256 == template_digest()
    assert style.aligned_like_ours
    if named == "ours":
        return
    model = replace(style.manifest.model, alignment_sha256=named)
    members, bounds = contents(tmp_path / "a.mdfy", owner[1])
    write_bundle(
        tmp_path / "b.mdfy", manifest=replace(style.manifest, model=model), members=members, abs_max=bounds,
        key=owner[0], provider=owner[1], overwrite=False,
    )  # fmt: skip
    with opened(tmp_path / "b.mdfy", owner[1]) as bundle:
        assert load_style(bundle).aligned_like_ours is ours


@pytest.mark.parametrize(
    ("value", "code"), [(float("nan"), "E_TENSOR_VALUE"), (1e6, "E_TENSOR_VALUE"), (None, "E_SELFTEST")]
)
def test_bad_values_from_a_trusted_signer_are_refused(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey], value: float | None, code: str
) -> None:
    """B-25 step 13: a signature does not excuse NaN, values above the bound, or another output."""
    style = publish(tmp_path, made, owner)
    largest = next(f.abs_max for f in style.manifest.model.weights if f.file.endswith("generator.safetensors"))
    path = repack(tmp_path, style, owner, "generator.to_rgbs.0.bias", largest if value is None else value)
    with opened(path, owner[1]) as bundle, pytest.raises(TensorError) as caught:
        load_style(bundle)
    assert (caught.value.code, caught.value.exit_code) == (code, 7)


@pytest.mark.parametrize(
    "change",
    [
        {"trunk": 32},
        {"xi": 3},
        {"resolution": 1024},
        {"w_dim": 65_536},
        {"remap_layers": 10**6},
        {"encoder": "x"},
        {"w_dim": 16.5},
        {"w_dim": True},
    ],
)
def test_configuration_that_does_not_fit_is_refused(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey], change: dict[str, object]
) -> None:
    """Step 12: the layers follow from a bounded configuration and must be those of the signed table."""
    style = publish(tmp_path, made, owner)
    members, bounds = contents(tmp_path / "a.mdfy", owner[1])
    model = replace(style.manifest.model, parameters={**style.manifest.model.parameters, **change})
    path = tmp_path / "b.mdfy"
    write_bundle(
        path, manifest=replace(style.manifest, model=model), members=members, abs_max=bounds, key=owner[0],
        provider=owner[1], overwrite=False,
    )  # fmt: skip
    with opened(path, owner[1]) as bundle, pytest.raises(ProtocolError) as caught:
        load_style(bundle)
    assert caught.value.code in {"E_TENSOR_SHAPE", "E_MANIFEST"}


def test_adapter_changes_what_it_carries(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey]
) -> None:
    """M-39: E' is E with the adapter's tensors, and nothing else."""
    style = publish(tmp_path, made, owner)
    write_adapter(tmp_path / "a.mdfa", adapted(style), style=style, key=owner[0], provider=owner[1], overwrite=False)
    with opened(tmp_path / "a.mdfa", owner[1]) as bundle:
        encoder = load_adapter(bundle, style)
        assert bundle.manifest.release == "local-only"
        assert "photos without differential privacy" in bundle.manifest.privacy.statement
        assert bundle.manifest.privacy.training_data.number_of_images == "not stated"
    old = style.model.encoder.state_dict()
    changed = {name for name, value in encoder.state_dict().items() if not torch.equal(value, old[name])}
    assert changed == {"heads.0.weight", "heads.0.bias"}


def test_adapter_for_another_bundle_is_refused(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey]
) -> None:
    """B-18: same networks, other bundle: E_BASE."""
    style, other = publish(tmp_path, made, owner), publish(tmp_path, made, owner, "other")
    write_adapter(tmp_path / "a.mdfa", adapted(style), style=style, key=owner[0], provider=owner[1], overwrite=False)
    with opened(tmp_path / "a.mdfa", owner[1]) as bundle, pytest.raises(PolicyError) as caught:
        load_adapter(bundle, other)
    assert (caught.value.code, caught.value.exit_code) == ("E_BASE", 6)


def test_adapter_may_not_touch_frozen_tensors(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey]
) -> None:
    """B-18: a tensor that the bundle does not list as trainable."""
    style = publish(tmp_path, made, owner)
    changed = replace(adapted(style), tensors={"w_avg": torch.zeros(8, 16)})
    write_adapter(tmp_path / "a.mdfa", changed, style=style, key=owner[0], provider=owner[1], overwrite=False)
    with opened(tmp_path / "a.mdfa", owner[1]) as bundle, pytest.raises(PolicyError) as caught:
        load_adapter(bundle, style)
    assert caught.value.code == "E_BASE"


def test_style_and_adapter_cannot_be_swapped(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey]
) -> None:
    """Either kind in the other's place is E_BASE."""
    style = publish(tmp_path, made, owner)
    write_adapter(tmp_path / "a.mdfa", adapted(style), style=style, key=owner[0], provider=owner[1], overwrite=False)
    with opened(tmp_path / "a.mdfa", owner[1]) as bundle, pytest.raises(PolicyError):
        load_style(bundle)
    with opened(tmp_path / "a.mdfy", owner[1]) as bundle, pytest.raises(PolicyError):
        load_adapter(bundle, style)


def test_style_in_five_lines(tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey]) -> None:
    """U-50, M-25: trust is named, xi' at most xi, xi' = 0 is D(E'(x)), styles differ by seed alone."""
    publish(tmp_path, made, owner)
    style = Style.load(tmp_path / "a.mdfy", trust=TrustStore.of(owner[1]))
    photos = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    out = style.paint(photos, seeded([1, 2]))
    assert out.shape == (2, 2, 3, 32, 32)
    assert not torch.equal(out[0], out[1])
    assert torch.equal(style.paint(photos, seeded([2]))[0], out[1])
    assert torch.allclose(style.paint(photos, seeded([1]), Controls(xi=0))[0], style.reconstruct(photos), atol=1e-5)
    assert torch.allclose(
        style.paint(photos, seeded([1]), Controls(strength=0.0))[0], style.reconstruct(photos), atol=1e-5
    )
    with pytest.raises(ProtocolError):
        Style.load(tmp_path / "a.mdfy", trust=TrustStore.of())


# Step 14 --------------------------------------------------------------------------------------


def _sequences(trust: TrustStore) -> list[int]:
    return [seen.sequence for provider in trust.providers() for seen in trust.last_seen(provider)]


def test_a_style_is_recorded_once_it_is_loaded(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey]
) -> None:
    """B-25 step 14: loading advances the last-seen sequence; what is kept holds no second copy of the weights."""
    publish(tmp_path, made, owner)
    trust = TrustStore.of(owner[1])
    with open_bundle(tmp_path / "a.mdfy", trust=trust, now=datetime.now(UTC)) as bundle:
        assert _sequences(trust) == []
        style = load_style(bundle)
        assert _sequences(trust) == [1]
        assert style.bundle is not bundle
        assert not hasattr(style.bundle, "read")
        assert style.digest == bundle.payload_digest


@pytest.mark.parametrize("value", [float("nan"), None])
def test_a_style_that_fails_its_checks_is_not_recorded(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey], value: float | None
) -> None:
    """Values and self-test come before step 14."""
    style = publish(tmp_path, made, owner)
    largest = next(f.abs_max for f in style.manifest.model.weights if f.file.endswith("generator.safetensors"))
    path = repack(tmp_path, style, owner, "generator.to_rgbs.0.bias", largest if value is None else value)
    trust = TrustStore.of(owner[1])
    with open_bundle(path, trust=trust, now=datetime.now(UTC)) as bundle, pytest.raises(TensorError):
        load_style(bundle)
    assert _sequences(trust) == []


def test_an_adapter_of_this_machine_is_not_recorded(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey]
) -> None:
    """A local-only adapter has no releases."""
    style = publish(tmp_path, made, owner)
    write_adapter(tmp_path / "a.mdfa", adapted(style), style=style, key=owner[0], provider=owner[1], overwrite=False)
    trust = TrustStore.of(owner[1])
    with open_bundle(tmp_path / "a.mdfa", trust=trust, now=datetime.now(UTC)) as bundle:
        load_adapter(bundle, style)
    assert _sequences(trust) == []


def test_encrypted_style_is_loaded_with_the_own_identity(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey]
) -> None:
    """B-25 step 3."""
    publish(tmp_path, made, owner)
    secret, recipient = generate_identity()
    sealed = tmp_path / "sealed.mdfy"
    with (tmp_path / "a.mdfy").open("rb") as reader, sealed.open("wb") as writer:
        encrypt_stream(reader, writer, [recipient])
    identity = Identity(recipient=recipient, secret=lambda: secret)
    trust = TrustStore.of(owner[1])
    assert Style.load(sealed, trust=trust, identity=identity).resolution == 32
    with pytest.raises(ProtocolError) as caught:
        Style.load(sealed, trust=trust)
    assert caught.value.code == "E_NOT_RECIPIENT"
