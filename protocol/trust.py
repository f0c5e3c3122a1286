"""The trust store: whose signature counts, for what, and which release is too old (B-34, B-37 to B-43).

Rules kept here: nothing is trusted because it was seen first (B-34); a pin is for
some roles, never more than the key itself declares (B-37); whatever changes does
so under the lock, in one file, and is judged again there (B-43); a provider in
dispute stays so until the user removes it (B-38). What the files hold, and the
rules for new keys and revocations, stand in ``pins`` and ``history``.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path

from protocol import rotation
from protocol.errors import UntrustedKeyError, problem
from protocol.history import History, Seen
from protocol.manifest import BundleInfo
from protocol.pins import PinnedKey, Provider, check_distinct
from protocol.provider import ProviderKey, Role
from protocol.revocation import Revocation, SignedRevocation
from protocol.schema import format_time
from protocol.trust_files import Folder, Memory

__all__ = ["PinnedKey", "TrustStore", "Update", "config_folder"]

_APPLICATION = "modify-fl"


def config_folder() -> Path:
    """Return the folder for settings: ``$MODIFY_CONFIG``, or the system's own place."""
    chosen = os.environ.get("MODIFY_CONFIG")
    if chosen:
        return Path(chosen)
    import platformdirs  # noqa: PLC0415 - only when nothing was chosen

    return platformdirs.user_config_path(_APPLICATION)


@dataclass(frozen=True, kw_only=True)
class Update:
    """What became of a file that was given to ``TrustStore.update``."""

    label: str
    """The user's name for the provider."""
    what: str
    """One phrase."""
    changed: bool
    """Whether the store holds something that it did not hold before."""


class TrustStore:
    """The providers that are accepted, in one folder, and what was seen of them.

    All methods raise E_KEYFILE where the store is damaged or open to others, and
    E_IO where it cannot be read or written; a change that fails changes nothing.
    """

    def __init__(self, place: Path | Memory) -> None:
        """Use a folder; it need not exist, and is made when a key is added.

        Args:
            place: Where ``pins.json`` and ``state.json`` are; or memory, see ``of``.
        """
        self._records = place if isinstance(place, Memory) else Folder(place)

    @classmethod
    def default(cls) -> "TrustStore":
        """Return the user's own store: the folder ``trust`` in ``config_folder()``."""
        return cls(config_folder() / "trust")

    @classmethod
    def of(cls, *keys: ProviderKey) -> "TrustStore":
        """Return a store in memory that accepts exactly ``keys``, each for all its roles.

        Args:
            keys: In any order; those of one provider must follow each other.

        Raises:
            UntrustedKeyError: E_KEY_CHAIN, they do not.
        """
        ordered = sorted(keys, key=lambda key: (key.provider_id, key.serial))
        chains = [tuple(chain) for _, chain in groupby(ordered, key=lambda key: key.provider_id)]
        providers = (Provider(label=chain[-1].name, roles=chain[-1].roles, keys=chain) for chain in chains)
        return cls(Memory(tuple(providers)))

    # --- questions --------------------------------------------------------------------------

    def providers(self) -> tuple[Provider, ...]:
        """Return all accepted providers, sorted by label."""
        return tuple(sorted(self._records.providers(), key=lambda provider: provider.label))

    def provider(self, name: str) -> Provider:
        """Return one accepted provider.

        Args:
            name: Its label, or the whole fingerprint of one of its keys.

        Raises:
            UntrustedKeyError: E_UNTRUSTED, no provider has this name.
        """
        return _named(self._records.providers(), name)

    def list(self) -> tuple[PinnedKey, ...]:
        """Return all keys of all accepted providers, sorted by label and serial."""
        history = self._records.history()
        return tuple(pin for found in self.providers() for pin in found.pins(history.revoked_keys(found.keys)))

    def find(self, hint: str) -> PinnedKey | None:
        """Return the key that a signature's hint names, if it is of an accepted provider.

        Whether it may still be used, its fields ``revoked``, ``disputed`` and
        ``retired_from`` tell.

        Args:
            hint: Hex SHA-256 of the key's PEM text (B-9).
        """
        return next((pin for pin in self.list() if pin.key.hint == hint), None)

    def revocations(self, provider: Provider) -> tuple[Revocation, ...]:
        """Return the lists and self-revocations that bind a provider."""
        return self._records.history().in_force(provider.keys)

    def last_seen(self, provider: Provider) -> tuple[Seen, ...]:
        """Return the newest release of each bundle of a provider that was used (B-42)."""
        return self._records.history().last_seen(provider.keys)

    def is_acknowledged(self, digest: str) -> bool:
        """Tell whether the user accepted the terms of the bundle with this payload digest."""
        return digest in self._records.history().acknowledged

    def warnings(self, now: datetime) -> tuple[str, ...]:
        """Return what the user should know about the store: W_STATE_RESET, W_REVOCATION_STALE (B-41, B-42)."""
        warnings, providers, history = [], self.providers(), self._records.history()
        lost = [provider.label for provider in providers if provider.provider_id in history.reset]
        if lost:
            warnings.append(
                f"the record of what was seen of {', '.join(lost)} got lost: an older or withdrawn bundle may go "
                "unnoticed until content-client trust update is run with the provider's newest revocation list; "
                "where there is none, content-client trust remove and trust add begin anew (W_STATE_RESET)"
            )
        for provider in providers:
            # The newest list speaks for all: it holds what was in those before.
            newest = max(history.in_force(provider.keys), key=lambda item: item.number, default=None)
            if newest and newest.next_update and newest.next_update < now:
                warnings.append(
                    f"{provider.label} promised a new revocation list by {format_time(newest.next_update)}: get it, "
                    "and run content-client trust update with it (W_REVOCATION_STALE)"
                )
        return tuple(warnings)

    def check_release(self, signer: PinnedKey, bundle: BundleInfo, digest: str) -> None:
        """Ask whether a genuine bundle is too old, withdrawn, or not the one seen before (B-39, B-40, B-42).

        Args:
            signer: Whose signature it has, as ``find`` returned it.
            bundle: From its manifest.
            digest: Its payload digest.

        Raises:
            PolicyError: E_KEY_RETIRED, made after another key had taken over;
                E_BUNDLE_REVOKED, the provider has withdrawn it.
            RollbackError: E_ROLLBACK, an older sequence than was seen, or than
                the provider allows; E_EQUIVOCATION, another bundle with a
                sequence that was seen.
        """
        provider, history = self.provider(signer.fingerprint), self._records.history()
        _check_release(provider, history, signer, bundle, digest)

    # --- changes ----------------------------------------------------------------------------

    def add(self, key: ProviderKey, *, label: str | None = None, roles: Sequence[Role] | None = None) -> PinnedKey:
        """Pin a key of any serial. Who calls this has compared its fingerprint (B-34).

        Pinning the same key again replaces the label and the roles of its provider;
        after it was removed, pinning begins anew with what got lost of it (B-42).

        Args:
            key: The provider's key.
            label: The user's name for the provider; its own when omitted.
            roles: What to accept from it; all that it declares when omitted.

        Raises:
            UntrustedKeyError: E_KEY_ROLE, more roles than the key declares;
                E_PROVIDER_MISMATCH, another provider has this label or key;
                E_KEY_CHAIN, other keys of the provider are pinned;
                E_KEY_FORK, the provider is in dispute.
            PolicyError: E_KEY_REVOKED, the key is revoked, by itself or by another one.
        """
        with self._records.lock():
            providers, history = self._records.providers(), self._records.history()
            before = next((old for old in providers if old.provider_id == key.provider_id), None)
            added = Provider(
                label=label or key.name,
                roles=key.roles if roles is None else tuple(roles),
                keys=rotation.keys_with(before, key),
            )
            pin = _pin(added, history, key.fingerprint)
            if pin.revoked is not None:
                raise problem(
                    "E_KEY_REVOKED",
                    why=f"the provider says: {pin.revoked}",
                    fix="ask the provider by another channel for its present key",
                    got=key.fingerprint,
                )
            if before is None and key.provider_id in history.reset:
                self._records.put_history(history.without_reset(key.provider_id))
            self._put_provider(added, providers)
            return pin

    def remove(self, name: str) -> Provider:
        """Forget a provider; what was seen of it, and what it revoked, is kept.

        Args:
            name: Its label, or the whole fingerprint of one of its keys.

        Returns:
            What was removed.

        Raises:
            UntrustedKeyError: E_UNTRUSTED, no provider has this name.
        """
        with self._records.lock():
            providers = self._records.providers()
            removed = _named(providers, name)
            self._records.put_history(self._records.history().with_keys(removed.keys))
            self._records.put_providers(tuple(old for old in providers if old is not removed))
            return removed

    def update(self, item: ProviderKey | SignedRevocation, *, now: datetime) -> Update:
        """Take up a key file or a revocation of an accepted provider (B-38 to B-40).

        Args:
            item: What the file holds; whether it is genuine is found out here.
            now: For the remark that a list is overdue already.

        Raises:
            UntrustedKeyError: E_UNTRUSTED, of no accepted provider; E_KEY_CHAIN,
                not endorsed by the key before it, or that one is not known;
                E_KEY_FORK, the provider is, from now on or already, in dispute.
            PolicyError: E_KEY_REVOKED, the key, or who signed for it, is revoked;
                E_KEY_RETIRED, a list that the newest key did not sign.
            RollbackError: E_REVOCATION_ROLLBACK, a list that is not newer than the
                stored one, or leaves out something of it.
            VerificationError: E_SIG_BAD, signed by none of the provider's keys.
        """
        with self._records.lock():
            providers, history = self._records.providers(), self._records.history()
            provider = next((old for old in providers if old.provider_id == item.provider_id), None)
            if provider is None:
                raise problem(
                    "E_UNTRUSTED",
                    why="the file is of a provider that is not accepted",
                    fix="accept a key of the provider first, with content-client trust add",
                )
            if provider.disputed:
                raise rotation.disputed(provider)
            if isinstance(item, ProviderKey):
                return self._follow(item, provider, providers, history)
            return self._heed(item.open(provider.keys), provider, history, now)

    def acknowledge(self, digest: str) -> None:
        """Remember that the user accepted the terms of the bundle with this payload digest."""
        with self._records.lock():
            history = self._records.history()
            if digest not in history.acknowledged:
                self._records.put_history(history.with_acknowledged(digest))

    def advance(self, signer: PinnedKey, bundle: BundleInfo, digest: str) -> None:
        """Step 14: remember the release that is used; all that is stored is asked once more (B-42).

        Args:
            signer: Whose signature it has.
            bundle: From its manifest.
            digest: Its payload digest.

        Raises:
            UntrustedKeyError: E_UNTRUSTED or E_KEY_FORK, the provider was removed, or
                is in dispute, since the bundle was verified.
            PolicyError: E_KEY_REVOKED, or as ``check_release``.
            RollbackError: As ``check_release``.
        """
        with self._records.lock():
            provider, history = self.provider(signer.fingerprint), self._records.history()
            if provider.disputed:
                raise rotation.disputed(provider)
            pin = _pin(provider, history, signer.fingerprint)
            if pin.revoked is not None:
                raise problem("E_KEY_REVOKED", why=f"the provider says: {pin.revoked}", got=pin.fingerprint)
            _check_release(provider, history, pin, bundle, digest)
            seen = Seen(
                provider_id=provider.provider_id,
                bundle_id=bundle.id,
                sequence=bundle.sequence,
                payload_sha256=digest,
                signer=pin.fingerprint,
            )
            if seen not in history.seen:
                self._records.put_history(history.with_seen(seen, provider.keys))

    def _follow(
        self, key: ProviderKey, provider: Provider, providers: tuple[Provider, ...], history: History
    ) -> Update:
        own = {key.fingerprint} if history.self_revoked(key) is not None else set()
        after = rotation.follow(provider, key, own | history.revoked_keys(provider.keys).keys())
        if after is provider:
            return Update(label=provider.label, what=f"nothing new in key {key.serial}", changed=False)
        self._put_provider(after, providers)
        if after.disputed:
            raise rotation.disputed(after)
        return Update(label=provider.label, what=f"key {key.serial} accepted", changed=True)

    def _heed(self, revocation: Revocation, provider: Provider, history: History, now: datetime) -> Update:
        name = f"revocation list {revocation.number}"
        if revocation.number == 0:
            name = f"revocation of key {revocation.signer.serial} by itself"
        after = history.heed(revocation, provider.keys)
        if after is history:
            return Update(label=provider.label, what=f"nothing new in {name}", changed=False)
        self._records.put_history(after)
        overdue = revocation.next_update is not None and revocation.next_update < now
        what = f"{name} accepted" + (", though a newer one is due" if overdue else "")
        return Update(label=provider.label, what=what, changed=True)

    def _put_provider(self, provider: Provider, providers: tuple[Provider, ...]) -> None:
        others = tuple(old for old in providers if old.provider_id != provider.provider_id)
        check_distinct((*others, provider))
        self._records.put_providers((*others, provider))


def _pin(provider: Provider, history: History, fingerprint: str) -> PinnedKey:
    pins = provider.pins(history.revoked_keys(provider.keys))
    return next(pin for pin in pins if pin.fingerprint == fingerprint)


def _named(providers: Sequence[Provider], name: str) -> Provider:
    found = [provider for provider in providers if name in {provider.label, *provider.fingerprints}]
    if not found:
        raise UntrustedKeyError(f"no pinned key is called {name}", fix="content-client trust list")
    return found[0]


def _check_release(provider: Provider, history: History, signer: PinnedKey, bundle: BundleInfo, digest: str) -> None:
    if signer.retired_from and bundle.created > signer.retired_from:
        raise problem(
            "E_KEY_RETIRED",
            why=f"the bundle was made on {format_time(bundle.created)}, after another key had taken over",
            expected=f"created by {format_time(signer.retired_from)}",
            got=format_time(bundle.created),
        )
    history.check_release(provider.keys, bundle, digest)
