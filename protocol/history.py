"""What was seen, agreed to and taken back: the file ``state.json`` (B-40 to B-42).

Rules kept here: of each bundle id the newest release is remembered (B-42); a list
of revocations replaces the one before only if its number is higher and it holds
all of it; a key that revoked itself stays revoked (B-40). Everything is known by
the key that signed it, and binds only whom signatures join to that key. Nothing of this is tied
to a pin: it is kept when a provider is removed, with the provider's keys, so that
removing and pinning again, by whichever of these keys, takes nothing back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from protocol.canonical import dump_json, parse_json
from protocol.errors import MalformedBundleError, problem
from protocol.manifest import BundleInfo
from protocol.provider import ProviderKey
from protocol.revocation import MAX_REVOCATION, Revocation, SignedRevocation
from protocol.schema import Bound, Hex64, Positive, decode, encode

__all__ = ["MAX_STATE", "History", "Seen", "dump_history", "parse_history"]

MAX_STATE = 16 << 20
"""Most bytes of ``state.json``."""

_NAME = "state.json"
_Uuid = Annotated[str, Bound(pattern=r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The newest release of a bundle that was used (B-42)."""

    provider_id: Hex64
    bundle_id: _Uuid
    sequence: Positive
    payload_sha256: Hex64
    """Which of all releases with this sequence it was."""
    signer: Annotated[str, Bound(pattern=r"SHA256:[A-Za-z0-9+/]{43}")]
    """Fingerprint of the key that signed it."""


@dataclass(frozen=True, kw_only=True)
class History:
    """Contents of ``state.json``; methods that change something return a new one."""

    seen: tuple[Seen, ...] = ()
    """One entry per provider, bundle and signer."""
    acknowledged: tuple[str, ...] = ()
    """Payload digests of the bundles whose terms the user accepted."""
    revocations: tuple[Revocation, ...] = ()
    """Of each provider the newest list, and every key that revoked itself."""
    keys: tuple[ProviderKey, ...] = ()
    """Of whom something is remembered, who signed it among them; they show which keys are of one line."""
    reset: tuple[str, ...] = ()
    """Ids of the providers of whom something may have been remembered that got lost (B-42)."""

    def last_seen(self, keys: Sequence[ProviderKey]) -> tuple[Seen, ...]:
        """Return the newest release of each bundle that was used and binds a provider with these keys."""
        line = self._line(keys)
        own = [seen for seen in self.seen if seen.provider_id == keys[0].provider_id and seen.signer in line]
        newest = {seen.bundle_id: seen for seen in sorted(own, key=lambda seen: seen.sequence)}
        return tuple(newest.values())

    def with_seen(self, seen: Seen, keys: Sequence[ProviderKey]) -> "History":
        """Remember a release in place of the one before that its key, one of ``keys``, had signed."""
        others = tuple(old for old in self.seen if _place(old) != _place(seen))
        return replace(self, seen=(*others, seen)).with_keys(keys)

    def with_acknowledged(self, digest: str) -> "History":
        """Remember that the user accepted the terms of a bundle."""
        return replace(self, acknowledged=(*self.acknowledged, digest))

    def with_keys(self, keys: Sequence[ProviderKey]) -> "History":
        """Remember the keys of a provider."""
        known = {key.envelope for key in self.keys}  # records that are equal may differ in who endorsed them
        return replace(self, keys=(*self.keys, *(key for key in keys if key.envelope not in known)))

    def without_reset(self, provider_id: str) -> "History":
        """Return the history for when what may have got lost of a provider is made up for."""
        return replace(self, reset=tuple(lost for lost in self.reset if lost != provider_id))

    def in_force(self, keys: Sequence[ProviderKey]) -> tuple[Revocation, ...]:
        """Return what binds a provider with these keys: what a key of their line has signed.

        The word of a key against itself holds whatever provider it names.

        Args:
            keys: The keys of one provider, by serial, at least one.
        """
        line = self._line(keys)
        return tuple(
            revocation
            for revocation in self.revocations
            if revocation.signer.fingerprint in line
            and (revocation.provider_id == keys[0].provider_id or revocation.number == 0)
        )

    def _line(self, keys: Sequence[ProviderKey]) -> set[str]:
        """Return the fingerprints of all keys whose word binds a provider with these keys.

        These are its own, those that lead to the first of them, and those to
        which the newest leads. One key leads to another by having signed its
        record: all else in a record, the provider id from serial 2 on included,
        is a claim of the record's own key. A key of another branch, after a
        dispute was settled (B-38), does not speak for the provider.
        """
        known = [key for key in (*self.keys, *keys) if key.provider_id == keys[0].provider_id]
        public = {key.fingerprint: key.public_key for key in known}
        steps = [
            (key.previous, key.fingerprint)
            for key in known
            if key.previous in public and key.is_endorsed_by(public[key.previous])
        ]
        before, after = {keys[0].fingerprint}, {keys[-1].fingerprint}
        for _ in steps:  # no line has more
            before |= {old for old, new in steps if new in before}
            after |= {new for old, new in steps if old in after}
        return before | after | {key.fingerprint for key in keys}

    def revoked_keys(self, keys: Sequence[ProviderKey]) -> dict[str, str]:
        """Return fingerprint and reason of each key that is revoked for a provider with ``keys``."""
        return {name: why for revocation in self.in_force(keys) for name, why in revocation.keys.items()}

    def self_revoked(self, key: ProviderKey) -> str | None:
        """Return why ``key`` revoked itself, if it did."""
        own = (revocation for revocation in self.revocations if revocation.number == 0)
        return next((item.keys[key.fingerprint] for item in own if key.fingerprint in item.keys), None)

    def check_release(self, keys: Sequence[ProviderKey], bundle: BundleInfo, digest: str) -> None:
        """Ask whether a bundle is withdrawn, too old, or not the one seen before (B-40, B-42).

        Args:
            keys: All keys of the provider, by serial.
            bundle: From its manifest.
            digest: Its payload digest.

        Raises:
            PolicyError: E_BUNDLE_REVOKED.
            RollbackError: E_ROLLBACK, E_EQUIVOCATION.
        """
        binding = self.in_force(keys)
        for item in binding:
            if digest in item.bundles:
                raise problem("E_BUNDLE_REVOKED", detail=item.bundles[digest], got=digest)
        floor = max((item.min_sequence.get(bundle.id, 0) for item in binding), default=0)
        if bundle.sequence < floor:
            why = "the provider's revocation list allows no older one"
            raise problem("E_ROLLBACK", why=why, expected=str(floor), got=str(bundle.sequence))
        seen = next((seen for seen in self.last_seen(keys) if seen.bundle_id == bundle.id), None)
        if seen and bundle.sequence < seen.sequence:
            raise problem("E_ROLLBACK", expected=str(seen.sequence), got=str(bundle.sequence))
        if seen and bundle.sequence == seen.sequence and digest != seen.payload_sha256:
            why = "two different bundles have one sequence number"
            raise problem("E_EQUIVOCATION", why=why, expected=str(seen.sequence), got=str(bundle.sequence))

    def heed(self, revocation: Revocation, keys: Sequence[ProviderKey]) -> "History":
        """Take up a revocation (B-40); a list makes up for those that may have got lost.

        Args:
            revocation: Signed by one of ``keys``.
            keys: All keys of the provider, by serial.

        Returns:
            The history itself where there is nothing new in it.

        Raises:
            PolicyError: E_KEY_RETIRED, a list that the newest key did not sign;
                E_KEY_REVOKED, the newest key may not speak any more.
            RollbackError: E_REVOCATION_ROLLBACK, not newer than the stored list,
                or not holding all of it.
        """
        if revocation.number == 0:
            known = self.self_revoked(revocation.signer) is not None
            return self if known else replace(self, revocations=(*self.revocations, revocation)).with_keys(keys)
        lists = tuple(earlier for earlier in self.in_force(keys) if earlier.number)
        if revocation in lists:
            return self
        _check_signer(revocation, keys[-1], self.revoked_keys(keys))
        for earlier in lists:
            _check_newer(revocation, earlier)
        kept = tuple(old for old in self.revocations if old not in lists)
        after = replace(self, revocations=(*kept, revocation))
        return after.with_keys(keys).without_reset(revocation.provider_id)


def _place(seen: Seen) -> tuple[str, str, str]:
    return seen.provider_id, seen.bundle_id, seen.signer


def _check_signer(revocation: Revocation, newest: ProviderKey, revoked: dict[str, str]) -> None:
    signer = revocation.signer
    if signer.fingerprint != newest.fingerprint:
        raise problem(
            "E_KEY_RETIRED",
            why="only the provider's newest key may sign a list of revocations",
            fix="ask the provider for a list that the newest key has signed",
            expected=newest.fingerprint,
            got=signer.fingerprint,
        )
    if signer.fingerprint in revoked:
        raise problem(
            "E_KEY_REVOKED",
            why=f"the provider says: {revoked[signer.fingerprint]}",
            fix="ask the provider by another channel how to go on",
            got=signer.fingerprint,
        )


def _check_newer(revocation: Revocation, earlier: Revocation) -> None:
    if revocation.number <= earlier.number:
        raise problem("E_REVOCATION_ROLLBACK", expected=f"a number above {earlier.number}", got=str(revocation.number))
    if not revocation.contains(earlier):
        raise problem(
            "E_REVOCATION_ROLLBACK",
            why=f"list {revocation.number} leaves out something that list {earlier.number} has revoked",
            fix="tell the provider",
        )


@dataclass(frozen=True, kw_only=True)
class _StateFile:
    """Contents of ``state.json``; documents are stored as they came, and their signatures checked on every read."""

    seen: tuple[Seen, ...]
    acknowledged: tuple[Hex64, ...]
    revocations: tuple[Annotated[str, Bound(longest=MAX_REVOCATION)], ...]
    """``.mdfyrev`` documents."""
    keys: tuple[Annotated[str, Bound(longest=16384)], ...]
    """``.mdfykey`` documents: the pin may be gone, and the revocations still have to be read."""
    reset: tuple[Hex64, ...]
    format: Literal["mdfy-state/1"] = "mdfy-state/1"


def parse_history(data: bytes) -> History:
    """Read what ``dump_history`` wrote.

    Raises:
        ProtocolError: It is damaged in any way; the class tells how.
    """
    file = decode(_StateFile, parse_json(data, limit=MAX_STATE, member=_NAME), member=_NAME)
    if len(set(map(_place, file.seen))) != len(file.seen):
        raise problem("E_MANIFEST", member=_NAME, detail="itself: one bundle stands there twice")
    keys = tuple(
        ProviderKey.from_json(parse_json(text.encode("utf-8"), member=_NAME), source=_NAME) for text in file.keys
    )
    revocations = (SignedRevocation.from_text(text, source=_NAME).open(keys) for text in file.revocations)
    return History(
        seen=file.seen,
        acknowledged=file.acknowledged,
        revocations=tuple(revocations),
        keys=keys,
        reset=file.reset,
    )


def dump_history(history: History) -> bytes:
    """Return the contents of ``state.json``.

    Raises:
        KeyFileError: E_KEYFILE, they could not be read back: a value is no digest,
            or there is too much of them.
    """
    file = _StateFile(
        seen=history.seen,
        acknowledged=history.acknowledged,
        revocations=tuple(revocation.signed.to_text() for revocation in history.revocations),
        keys=tuple(dump_json(key.envelope.to_json()).decode("utf-8") for key in history.keys),
        reset=history.reset,
    )
    try:
        data = dump_json(encode(file), limit=MAX_STATE)
        parse_history(data)  # what could not be read back would lock the store
    except MalformedBundleError as error:
        detail = f"no state can look like this: {error}"
        raise problem("E_KEYFILE", detail=detail, fix="check what was to be remembered") from error
    return data
