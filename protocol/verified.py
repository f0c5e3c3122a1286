"""What verification gives: facts about a bundle, and, where it was opened, its contents (B-25).

Only ``verify`` makes these. The contents of a ``VerifiedBundle`` are the very bytes
that were hashed in step 11; the file they came from is closed and not read again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from protocol.errors import ProtocolError, problem
from protocol.manifest import Kind, Manifest
from protocol.statement import Resource
from protocol.steps import trainable_file
from protocol.trust import PinnedKey, TrustStore

__all__ = ["Step", "Verification", "VerifiedBundle", "check_base"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One rule that was kept."""

    number: int
    """Step of B-25; some steps have several rules."""
    name: str
    result: str
    """What was found, one phrase."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Verification:
    """A bundle that passed steps 1 to 12, without its contents."""

    manifest: Manifest
    payload_digest: str
    """Hex SHA-256 of what was signed: the identity of the bundle (B-13)."""
    signer: PinnedKey
    members: Mapping[str, Resource]
    """Signed members by name, ``model.sig`` not among them."""
    steps: tuple[Step, ...]
    """What was checked, in order."""
    warnings: tuple[str, ...]
    """What the user should hear about the trust store, one sentence each (B-41, B-42)."""

    @property
    def kind(self) -> Kind:
        """Kind of the bundle, as signed."""
        return self.manifest.kind


@dataclass(frozen=True, kw_only=True, eq=False)
class VerifiedBundle(Verification):
    """A bundle that passed steps 1 to 12, with its contents in memory.

    A context manager that drops the contents; the facts stay.
    """

    _copies: dict[str, bytes] = field(repr=False)
    _trust: TrustStore = field(repr=False)

    def read(self, name: str) -> bytes:
        """Return the contents of one member: the bytes that were hashed.

        Raises:
            VerificationError: E_MISSING_MEMBER, there is no such member.
            ValueError: the contents were dropped.
        """
        if name not in self.members:
            raise problem("E_MISSING_MEMBER", member=name)
        if name not in self._copies:
            message = "the bundle is closed"
            raise ValueError(message)
        return self._copies[name]

    def facts(self) -> Verification:
        """Return everything but the contents, for whoever keeps it longer."""
        return Verification(
            manifest=self.manifest,
            payload_digest=self.payload_digest,
            signer=self.signer,
            members=self.members,
            steps=self.steps,
            warnings=self.warnings,
        )

    def record_use(self) -> None:
        """Advance the last-seen sequence: step 14, called once values and self-test were found right (B-42).

        An adapter that stays on this machine is not recorded.

        Raises:
            PolicyError: something was recorded meanwhile that forbids it, such
                as a later release or a revocation.
            KeyFileError: E_KEYFILE, the store is damaged or open to others.
            StorageError: E_IO, the store cannot be written.
        """
        if self.manifest.release == "local-only":
            return
        try:
            self._trust.advance(self.signer, self.manifest.bundle, self.payload_digest)
        except ProtocolError as error:
            error.step = 14
            raise

    def close(self) -> None:
        """Drop the contents; ``read`` is over then."""
        self._copies.clear()

    def __enter__(self) -> Self:
        """Return the bundle itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Drop the contents."""
        self.close()


def check_base(adapter: Verification, base: Verification) -> None:
    """Refuse an adapter that was not made for ``base``, or touches more than it may (B-18).

    Args:
        adapter: A verified encoder adapter.
        base: A verified style bundle.

    Raises:
        PolicyError: E_BASE, another bundle, or a tensor that is not trainable
            there with the same shape, and with the same type or as float32.
    """
    wanted = adapter.manifest.base
    if wanted is None or base.kind != "style-bundle":
        raise problem("E_BASE", detail=f"{adapter.kind} on {base.kind}")
    if (wanted.payload_sha256, wanted.bundle_id, wanted.sequence) != (
        base.payload_digest,
        base.manifest.bundle.id,
        base.manifest.bundle.sequence,
    ):
        raise problem(
            "E_BASE",
            detail="the adapter was made for another bundle",
            expected=wanted.payload_sha256,
            got=base.payload_digest,
        )
    file = trainable_file(base.manifest)
    allowed = {name: file.tensors[name] for name in base.manifest.model.trainable} if file else {}
    for changed in adapter.manifest.model.weights:
        if file is None or changed.file != file.file:
            raise problem("E_BASE", detail=f"{changed.file} is frozen there")
        for name, info in changed.tensors.items():
            there = allowed.get(name)
            if there is None or there.shape != info.shape or info.dtype not in {there.dtype, "F32"}:
                raise problem("E_BASE", detail=f"tensor {name} is not trainable there in this form")
