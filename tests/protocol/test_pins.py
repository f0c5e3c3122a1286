"""Providers and their chains of keys, as they are stored (B-36, B-37, B-43)."""

import pytest
from bundlekit import CLIENT, CREATED, EXPIRES, OTHER, OTHER_KEY, STUDIO
from trustkit import FORGED, SECOND, THIRD, TURN, TURN_AGAIN

from protocol.errors import KeyFileError, UntrustedKeyError
from protocol.pins import Provider, check_distinct, dump_pins, parse_pins
from protocol.provider import ProviderKey, issue_provider_key


def provider(*keys: ProviderKey, label: str = "nord", disputed: bool = False) -> Provider:
    return Provider(label=label, roles=keys[-1].roles, keys=keys, disputed=disputed)


CHAIN = provider(STUDIO, SECOND, THIRD)


@pytest.mark.parametrize(
    "providers",
    [(), (CHAIN,), (provider(SECOND, disputed=True), provider(OTHER, label="ø, 北"))],
    ids=["none", "a chain", "a later key in dispute, and another"],
)
def test_round_trip(providers: tuple[Provider, ...]) -> None:
    assert parse_pins(dump_pins(providers)) == providers


def test_signatures_come_back_with_the_keys() -> None:
    (back,) = parse_pins(dump_pins([CHAIN]))
    assert [key.envelope for key in back.keys] == [key.envelope for key in CHAIN.keys]


@pytest.mark.parametrize(
    "keys",
    [(STUDIO, THIRD), (SECOND, STUDIO), (STUDIO, STUDIO), (STUDIO, FORGED), (STUDIO, OTHER)],
    ids=["gap", "backwards", "twice", "not endorsed", "two providers"],
)
def test_keys_that_do_not_follow_each_other_are_no_chain(keys: tuple[ProviderKey, ...]) -> None:
    with pytest.raises(UntrustedKeyError) as caught:
        provider(*keys)
    assert caught.value.code == "E_KEY_CHAIN"


def test_provider_without_a_key_is_none() -> None:
    with pytest.raises(KeyFileError, match="nord has no key"):
        Provider(label="nord", roles=("style",), keys=())


def test_roles_are_sorted_and_bounded() -> None:
    assert Provider(label="nord", roles=("style", "adapter", "style"), keys=(STUDIO,)).roles == ("adapter", "style")
    with pytest.raises(UntrustedKeyError) as caught:
        Provider(label="nord", roles=("adapter", "style"), keys=(CLIENT,))
    assert (caught.value.code, caught.value.expected) == ("E_KEY_ROLE", "adapter")


def test_each_key_knows_how_it_stands() -> None:
    pins = provider(STUDIO, SECOND, THIRD, disputed=True).pins({SECOND.fingerprint: "lost"})
    assert [pin.key for pin in pins] == [STUDIO, SECOND, THIRD]
    assert [pin.retired_from for pin in pins] == [TURN, TURN_AGAIN, None]
    assert [pin.revoked for pin in pins] == [None, "lost", None]
    assert all(pin.disputed and pin.label == "nord" for pin in pins)


def test_newest_key_and_serials() -> None:
    later = provider(SECOND, THIRD)
    assert (later.newest, later.provider_id) == (THIRD, STUDIO.provider_id)
    assert (later.with_serial(2), later.with_serial(1), later.with_serial(4)) == (SECOND, None, None)


@pytest.mark.parametrize(
    "other",
    [
        provider(OTHER),
        provider(STUDIO, label="south"),
        provider(OTHER, label=STUDIO.fingerprint),
        provider(OTHER, label=STUDIO.provider_id),
    ],
    ids=["label", "provider", "label like a fingerprint", "label like an identity"],
)
def test_providers_share_nothing(other: Provider) -> None:
    check_distinct([provider(STUDIO), provider(OTHER, label="south")])
    for pair in ([provider(STUDIO), other], [other, provider(STUDIO)]):
        with pytest.raises(UntrustedKeyError) as caught:
            check_distinct(pair)
        assert caught.value.code == "E_PROVIDER_MISMATCH"


def test_too_much_is_refused_before_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.pins.MAX_PINS", len(dump_pins([CHAIN])))
    dump_pins([CHAIN])
    with pytest.raises(KeyFileError, match="longer than"):
        dump_pins([CHAIN, provider(OTHER, label="south")])


def test_longest_names_fit() -> None:
    # 200 characters of four bytes each, in name and contact: still one entry of the file.
    key = issue_provider_key(
        OTHER_KEY, name="😀" * 200, contact="😀" * 200, roles=("style",), not_before=CREATED, expires=EXPIRES
    )
    assert parse_pins(dump_pins([provider(key, label="😀" * 200)]))[0].newest == key
