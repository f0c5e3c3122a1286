"""What a style bundle says, and what is never packed into one (P-81 to P-85)."""

from pathlib import Path

import pytest
import torch

from modify_fl.artifacts import Encapsulated
from modify_fl.bundle import load_style, write_style_bundle
from protocol.errors import PolicyError, TensorError
from protocol.provider import ProviderKey
from protocol.signing import PrivateKey
from tests.modify_fl.bundle.conftest import RELEASE, opened, publish


def test_manifest_tells_the_truth_about_privacy(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey]
) -> None:
    """P-84, P-3: no DP ran, leakage was not measured, the number of pictures is a band, the critic ships."""
    card = publish(tmp_path, made, owner).manifest.privacy
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
    network.register_buffer("codes", torch.zeros(RELEASE.images, 16))
    path = tmp_path / "a.mdfy"
    with pytest.raises(TensorError, match="no layer") as caught:
        write_style_bundle(path, made, release=RELEASE, key=owner[0], provider=owner[1], overwrite=False)
    assert caught.value.member == "codes"
    assert not path.exists()
    if part == "discriminator":  # it stays at home, and so does its table
        write_style_bundle(path, made, release=RELEASE, key=owner[0], provider=owner[1], overwrite=False, critic=False)
        with opened(path, owner[1]) as bundle:
            assert load_style(bundle).discriminator is None


@pytest.mark.parametrize("name", ["reports/notes.md", "reports/leakage.json"])
def test_picture_or_path_in_a_report_is_not_packed(
    tmp_path: Path, made: Encapsulated, owner: tuple[PrivateKey, ProviderKey], name: str
) -> None:
    for hidden in (b"\x89PNG\r\n\x1a\n", b'{"trained_on": "/home/anna/faces"}', b"Exif\x00\x00II*\x00"):
        with pytest.raises(PolicyError) as caught:
            write_style_bundle(
                tmp_path / "a.mdfy", made, release=RELEASE, key=owner[0], provider=owner[1], overwrite=False,
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
        write_style_bundle(tmp_path / "a.mdfy", made, release=RELEASE, key=owner[0], provider=owner[1], overwrite=False)
    assert (caught.value.code, caught.value.exit_code) == ("E_TENSOR_VALUE", 7)
    assert list(tmp_path.iterdir()) == []
