"""How the keys of an accepted provider may change: by the user, or by the key before (B-34, B-38).

Rules kept here: a new key is taken up only as the next one, endorsed by the one
before it; a second, genuine key of one serial puts the provider in dispute, which
nothing here ends; what is not genuine changes nothing, so that nobody else can
put a provider in dispute (B-38).
"""

import shlex
from collections.abc import Collection
from dataclasses import replace

from protocol.errors import ProtocolError, problem
from protocol.pins import Provider
from protocol.provider import ProviderKey

__all__ = ["disputed", "follow", "keys_with"]


def disputed(provider: Provider) -> ProtocolError:
    """Return E_KEY_FORK about a provider, ready to be raised."""
    return problem(
        "E_KEY_FORK",
        why=f"two genuine keys of {provider.label} have one serial, so somebody else may hold its key; "
        "nothing of it is accepted",
        fix="ask the provider by another channel which key is right, then run "
        f"content-client trust remove {shlex.quote(provider.label)} and pin that key again",
    )


def keys_with(before: Provider | None, key: ProviderKey) -> tuple[ProviderKey, ...]:
    """Return the keys of a provider after the user accepted ``key`` by its fingerprint (B-34).

    Args:
        before: The provider, if it is accepted already.
        key: Of any serial; in place of an earlier record of the same key.

    Raises:
        UntrustedKeyError: E_KEY_CHAIN, other keys of the provider are accepted;
            E_KEY_FORK, it is in dispute.
    """
    if before is None:
        return (key,)
    if before.disputed:
        raise disputed(before)
    if key.fingerprint not in before.fingerprints:
        raise problem(
            "E_KEY_CHAIN",
            why=f"another key of this provider is accepted as {before.label}",
            fix="content-client trust update FILE takes up a key that follows; if the two are not of one provider, "
            f"run content-client trust remove {shlex.quote(before.label)} first",
        )
    return tuple(key if key.fingerprint == old.fingerprint else old for old in before.keys)


def follow(provider: Provider, key: ProviderKey, revoked: Collection[str]) -> Provider:
    """Hold a key file against the keys of its provider (B-38).

    Args:
        provider: Who has the same provider id, and is not in dispute already.
        key: Checked by itself only; whether it is genuine shows here.
        revoked: Fingerprints of revoked keys.

    Returns:
        ``provider`` itself where there is nothing to learn; else with the key at
        its end, or in dispute where the key is a genuine second one of its serial.

    Raises:
        UntrustedKeyError: E_KEY_CHAIN, not endorsed, or a key before it is missing.
        PolicyError: E_KEY_REVOKED, the key, or the one that endorses it, is revoked.
    """
    known = provider.with_serial(key.serial)
    if known is None:
        return _append(provider, key, revoked)
    return provider if known.fingerprint == key.fingerprint else _contest(provider, key, revoked)


def _append(provider: Provider, key: ProviderKey, revoked: Collection[str]) -> Provider:
    newest = provider.newest
    if key.serial < newest.serial:
        return provider  # from before the first key that was accepted: nobody could check it, nobody needs it
    if key.serial > newest.serial + 1:
        raise problem(
            "E_KEY_CHAIN",
            why=f"it has serial {key.serial}, and the newest key known is {newest.serial}",
            fix="get the key files in between and give them all to content-client trust update",
        )
    for held in (newest, key):
        if held.fingerprint in revoked:
            raise problem(
                "E_KEY_REVOKED",
                why=f"key {held.serial} of {provider.label} is revoked",
                fix="ask the provider by another channel how to go on",
                got=held.fingerprint,
            )
    key.check_endorsement(newest)
    if key.fingerprint in provider.fingerprints:
        raise problem("E_KEY_CHAIN", why="an earlier key of the provider comes back under a new serial")
    return replace(provider, keys=(*provider.keys, key))


def _contest(provider: Provider, key: ProviderKey, revoked: Collection[str]) -> Provider:
    """Judge another key with a serial that is taken; only a genuine one makes a dispute."""
    previous = provider.with_serial(key.serial - 1)
    if previous is None:
        raise problem(
            "E_KEY_CHAIN",
            why=f"another key with serial {key.serial} was accepted, and none that could endorse either",
        )
    key.check_endorsement(previous)
    return provider if previous.fingerprint in revoked else replace(provider, disputed=True)
