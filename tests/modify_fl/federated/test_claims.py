"""P-1, P-34: what is said about the photos of all sites of a federation."""

from dataclasses import replace

import pytest

from modify_fl.federated.claims import federation_sentence, for_each_site
from modify_fl.privacy.statement import no_guarantee
from protocol.privacy import DpMechanism, DpStatement

CLAIM = DpStatement(
    applied=True, unit="image", adjacency="add/remove", epsilon=8.0, delta=1e-5,
    mechanisms=(DpMechanism(sampling_rate=0.1, noise_multiplier=2.0, max_grad_norm=1.0, steps=10),), accountant="RDP",
    accountant_version="opacus", releases=("r",), n_is_public=False, tuned_on_private="nothing",
    not_covered=("logs you export",),
)  # fmt: skip
NONE = no_guarantee("updates had no privacy")


@pytest.mark.parametrize(
    ("unit", "photos_differ", "said"),
    [
        ("image", True, ""), ("image", False, "photos that several sites hold"),
        ("person", True, "persons whose photos several sites hold"),
        ("person", False, "persons whose photos several sites hold"),
    ],
)  # fmt: skip
def test_what_is_at_two_sites_is_not_covered(unit: str, photos_differ: bool, said: str) -> None:
    """Photos can be compared, persons cannot: their claims at two sites would add up."""
    found = for_each_site(replace(CLAIM, unit=unit), photos_differ=photos_differ)
    assert found.not_covered == ("logs you export", *([said] if said else []))
    assert for_each_site(NONE, photos_differ=photos_differ) == NONE


def test_the_sentence_is_about_the_federation() -> None:
    assert federation_sentence(CLAIM).startswith("Every update of this federation, together, is (8, 1e-05)-DP under")
    assert federation_sentence(NONE) == "guarantee: none (updates had no privacy)"
