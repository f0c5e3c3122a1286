"""Networks into signed bundles and back (B-18, B-25 steps 12 to 14, M-39)."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from modify_fl.artifacts import Adapted, Encapsulated, LoadedStyle, TrainingSummary
from modify_fl.bundle import Release, load_adapter, load_style, write_adapter, write_style_bundle
from modify_fl.config import Preset
from modify_fl.faces.align import template_digest
from modify_fl.networks.discriminator import build_discriminator
from modify_fl.networks.model import StyleModel
from modify_fl.perceptual import NetRecord
from modify_fl.style import Style
from modify_fl.styles import Controls, seeded
from protocol.encryption import Identity, encrypt_stream, generate_identity
from protocol.errors import PolicyError, ProtocolError, TensorError
from protocol.provider import ProviderKey
from protocol.publish import write_bundle
from protocol.signing import PrivateKey, generate_key
from protocol.trust import TrustStore
from protocol.verify import VerifiedBundle, open_bundle
from tests.modify_fl.training.conftest import NETWORK, new_provider

_SUMMARY = TrainingSummary(
    images_seen=8, steps=2, seconds=1.0, seed=0, perceptual=NetRecord(name="dis-features"),
    identity=NetRecord(name="laplacian"), compute="cpu",
)  # fmt: skip
_RELEASE = Release(name="drawn", description="drawn faces", images=120, dataset_licence="Apache-2.0")


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
        summary=_SUMMARY, folder=tmp_path,
    )  # fmt: skip


def _open(path: Path, provider: ProviderKey) -> VerifiedBundle:
    return open_bundle(path, trust=TrustStore.of(provider), now=datetime.now(UTC))


def _publish(folder: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey], name: str = "a") -> LoadedStyle:
    path = folder / f"{name}.mdfy"
    write_style_bundle(path, made, release=_RELEASE, key=owner[0], provider=owner[1], overwrite=False)
    with _open(path, owner[1]) as bundle:
        return load_style(bundle)


def _adapted(style: LoadedStyle, names: tuple[str, ...] = ("heads.0.weight", "heads.0.bias")) -> Adapted:
    state = style.model.encoder.state_dict()
    return Adapted(tensors={n: state[n] + 1 for n in names}, mode="offline", subset="heads", summary=_SUMMARY)


def test_networks_come_back(tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey]) -> None:
    """What is loaded paints what was packed, to 1e-5 because the gains were folded (M-19)."""
    style = _publish(tmp_path, made, owner)
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
    style = _publish(tmp_path, made, owner)
    assert style.manifest.model.alignment_sha256 == template_digest()
    assert style.aligned_like_ours
    if named == "ours":
        return
    model = replace(style.manifest.model, alignment_sha256=named)
    with _open(tmp_path / "a.mdfy", owner[1]) as bundle:
        members = {file.file: bundle.read(file.file) for file in bundle.manifest.model.weights}
        bounds = {file.file: file.abs_max for file in bundle.manifest.model.weights}
    write_bundle(
        tmp_path / "b.mdfy", manifest=replace(style.manifest, model=model), members=members, abs_max=bounds,
        key=owner[0], provider=owner[1], overwrite=False,
    )  # fmt: skip
    with _open(tmp_path / "b.mdfy", owner[1]) as bundle:
        assert load_style(bundle).aligned_like_ours is ours


def test_manifest_tells_the_truth_about_privacy(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey]
) -> None:
    """P-84, P-3: no DP ran, leakage was not measured, the number of pictures is a band, the critic ships."""
    card = _publish(tmp_path, made, owner).manifest.privacy
    assert not card.dp.applied
    assert card.dp.epsilon is None
    assert "without differential privacy" in card.statement
    assert "not measured" in card.statement
    assert card.training_data.number_of_images == "100 to 299"
    assert card.memorisation_audit is not None
    assert card.memorisation_audit.critic_shipped


@pytest.mark.parametrize("part", ["encoder", "generator", "offset", "remapping", "discriminator"])
def test_table_with_one_row_for_each_image_is_not_packed(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey], part: str
) -> None:
    """P-81: codes of the 120 images as one more tensor of any network; nothing is written, not even its length."""
    network = made.discriminator if part == "discriminator" else getattr(made.model, part)
    network.register_buffer("codes", torch.zeros(_RELEASE.images, 16))
    path = tmp_path / "a.mdfy"
    with pytest.raises(TensorError, match="no layer") as caught:
        write_style_bundle(path, made, release=_RELEASE, key=owner[0], provider=owner[1], overwrite=False)
    assert caught.value.member == "codes"
    assert not path.exists()
    if part == "discriminator":  # it stays at home, and so does its table
        write_style_bundle(path, made, release=_RELEASE, key=owner[0], provider=owner[1], overwrite=False, critic=False)
        with _open(path, owner[1]) as bundle:
            assert load_style(bundle).discriminator is None


@pytest.mark.parametrize("name", ["reports/notes.md", "reports/leakage.json"])
def test_picture_or_path_in_a_report_is_not_packed(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey], name: str
) -> None:
    for hidden in (b"\x89PNG\r\n\x1a\n", b'{"trained_on": "/home/anna/faces"}', b"Exif\x00\x00II*\x00"):
        with pytest.raises(PolicyError) as caught:
            write_style_bundle(
                tmp_path / "a.mdfy", made, release=_RELEASE, key=owner[0], provider=owner[1], overwrite=False,
                reports={name: hidden},
            )  # fmt: skip
        assert (caught.value.code, caught.value.member) == ("E_LINT", name)
    assert not (tmp_path / "a.mdfy").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_packed(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey], value: float
) -> None:
    """Nothing is written."""
    made.model.generator.const[0, 0, 0, 0] = value
    with pytest.raises(TensorError, match="not finite") as caught:
        write_style_bundle(
            tmp_path / "a.mdfy", made, release=_RELEASE, key=owner[0], provider=owner[1], overwrite=False
        )
    assert (caught.value.code, caught.value.exit_code) == ("E_TENSOR_VALUE", 7)
    assert list(tmp_path.iterdir()) == []


def _repack(folder: Path, style: LoadedStyle, owner: tuple[PrivateKey, ProviderKey], change: str, value: float) -> Path:
    """Sign a bundle whose weights a dishonest but trusted provider changed after measuring them."""
    with _open(folder / "a.mdfy", owner[1]) as bundle:
        members = {file.file: bundle.read(file.file) for file in bundle.manifest.model.weights}
        bounds = {file.file: file.abs_max for file in bundle.manifest.model.weights}
    tensors = load(members["weights/generator.safetensors"])
    tensors[change].view(-1)[0] = value
    members["weights/generator.safetensors"] = save(tensors)
    path = folder / "b.mdfy"
    write_bundle(
        path, manifest=style.manifest, members=members, abs_max=bounds, key=owner[0], provider=owner[1], overwrite=False
    )
    return path


@pytest.mark.parametrize(
    ("value", "code"), [(float("nan"), "E_TENSOR_VALUE"), (1e6, "E_TENSOR_VALUE"), (None, "E_SELFTEST")]
)
def test_bad_values_from_a_trusted_signer_are_refused(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey], value: float | None, code: str
) -> None:
    """B-25 step 13: a signature does not excuse NaN, values above the bound, or another output."""
    style = _publish(tmp_path, made, owner)
    largest = next(f.abs_max for f in style.manifest.model.weights if f.file.endswith("generator.safetensors"))
    path = _repack(tmp_path, style, owner, "generator.to_rgbs.0.bias", largest if value is None else value)
    with _open(path, owner[1]) as bundle, pytest.raises(TensorError) as caught:
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
    style = _publish(tmp_path, made, owner)
    with _open(tmp_path / "a.mdfy", owner[1]) as bundle:
        members = {file.file: bundle.read(file.file) for file in bundle.manifest.model.weights}
        bounds = {file.file: file.abs_max for file in bundle.manifest.model.weights}
    model = replace(style.manifest.model, parameters={**style.manifest.model.parameters, **change})
    path = tmp_path / "b.mdfy"
    write_bundle(
        path, manifest=replace(style.manifest, model=model), members=members, abs_max=bounds, key=owner[0],
        provider=owner[1], overwrite=False,
    )  # fmt: skip
    with _open(path, owner[1]) as bundle, pytest.raises(ProtocolError) as caught:
        load_style(bundle)
    assert caught.value.code in {"E_TENSOR_SHAPE", "E_MANIFEST"}


def test_adapter_changes_what_it_carries(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey]
) -> None:
    """M-39: E' is E with the adapter's tensors, and nothing else."""
    style = _publish(tmp_path, made, owner)
    write_adapter(tmp_path / "a.mdfa", _adapted(style), style=style, key=owner[0], provider=owner[1], overwrite=False)
    with _open(tmp_path / "a.mdfa", owner[1]) as bundle:
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
    style, other = _publish(tmp_path, made, owner), _publish(tmp_path, made, owner, "other")
    write_adapter(tmp_path / "a.mdfa", _adapted(style), style=style, key=owner[0], provider=owner[1], overwrite=False)
    with _open(tmp_path / "a.mdfa", owner[1]) as bundle, pytest.raises(PolicyError) as caught:
        load_adapter(bundle, other)
    assert (caught.value.code, caught.value.exit_code) == ("E_BASE", 6)


def test_adapter_may_not_touch_frozen_tensors(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey]
) -> None:
    """B-18: a tensor that the bundle does not list as trainable."""
    style = _publish(tmp_path, made, owner)
    adapted = replace(_adapted(style), tensors={"w_avg": torch.zeros(8, 16)})
    write_adapter(tmp_path / "a.mdfa", adapted, style=style, key=owner[0], provider=owner[1], overwrite=False)
    with _open(tmp_path / "a.mdfa", owner[1]) as bundle, pytest.raises(PolicyError) as caught:
        load_adapter(bundle, style)
    assert caught.value.code == "E_BASE"


def test_style_and_adapter_cannot_be_swapped(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey]
) -> None:
    """Either kind in the other's place is E_BASE."""
    style = _publish(tmp_path, made, owner)
    write_adapter(tmp_path / "a.mdfa", _adapted(style), style=style, key=owner[0], provider=owner[1], overwrite=False)
    with _open(tmp_path / "a.mdfa", owner[1]) as bundle, pytest.raises(PolicyError):
        load_style(bundle)
    with _open(tmp_path / "a.mdfy", owner[1]) as bundle, pytest.raises(PolicyError):
        load_adapter(bundle, style)


def test_style_in_five_lines(tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey]) -> None:
    """U-50, M-25: trust is named, xi' at most xi, xi' = 0 is D(E'(x)), styles differ by seed alone."""
    _publish(tmp_path, made, owner)
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
    _publish(tmp_path, made, owner)
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
    style = _publish(tmp_path, made, owner)
    largest = next(f.abs_max for f in style.manifest.model.weights if f.file.endswith("generator.safetensors"))
    path = _repack(tmp_path, style, owner, "generator.to_rgbs.0.bias", largest if value is None else value)
    trust = TrustStore.of(owner[1])
    with open_bundle(path, trust=trust, now=datetime.now(UTC)) as bundle, pytest.raises(TensorError):
        load_style(bundle)
    assert _sequences(trust) == []


def test_an_adapter_of_this_machine_is_not_recorded(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey]
) -> None:
    """A local-only adapter has no releases."""
    style = _publish(tmp_path, made, owner)
    write_adapter(tmp_path / "a.mdfa", _adapted(style), style=style, key=owner[0], provider=owner[1], overwrite=False)
    trust = TrustStore.of(owner[1])
    with open_bundle(tmp_path / "a.mdfa", trust=trust, now=datetime.now(UTC)) as bundle:
        load_adapter(bundle, style)
    assert _sequences(trust) == []


def test_encrypted_style_is_loaded_with_the_own_identity(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey]
) -> None:
    """B-25 step 3."""
    _publish(tmp_path, made, owner)
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
