"""``ReleaseGate``: the one door through which anything made of photos leaves (P-36 to P-39).

It works by allow-list: trainable tensors of the encoder, checked against the
signed manifest (``allowed``); ids; public settings; the statement. Names of files, counts,
metrics, seeds, times and everything else that a run knows stay behind. What leaves
is written into the ledger first, so a crash records too much, never too little.

Guarantees: whatever went through ``write_adapter`` or ``reply`` is a function of
noisy sums that the ledger of its vault was charged for, as far as the trainer that
made the tensors is the one of this package.

| case | result |
|---|---|
| no charge for the run, fewer steps charged than taken, or charged for another style | ``PrivacyBudgetError`` |
| repeatable noise in the run | ``PrivacyBudgetError`` |
| test-time or ``local-only`` weights | ``PolicyError``, E_LOCAL_ONLY |
| the vault, or another one with some of its photos, says that nothing can be claimed | ``PrivacyBudgetError`` |
| a tensor that is no trainable one, a buffer, another shape or type | ``TensorError`` |
| weights without differential privacy | ``write_unprotected``, with a reason that enters file and ledger |
"""

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from torch import Tensor

from modify_fl.artifacts import Adapted, LoadedStyle, TrainingSummary
from modify_fl.bundle import Shared, write_adapter
from modify_fl.errors import ConfigError, DataError, FederationPolicyError, PrivacyBudgetError, VaultBusyError
from modify_fl.outputs import refuse_existing
from modify_fl.privacy.allowed import check_factors, check_tensors, refuse_test_time, require_charged
from modify_fl.privacy.ledger import Vault
from modify_fl.privacy.loose import LooseRelease
from modify_fl.privacy.places import find_place, held_vaults, places, require_photos
from modify_fl.privacy.records import Charge
from modify_fl.privacy.settings import NOT_STATED
from modify_fl.privacy.statement import no_guarantee, require_claim, statement_of
from protocol.errors import ProtocolError, StorageError
from protocol.lint import lint_texts
from protocol.manifest import BundleInfo, Federation
from protocol.privacy import DpStatement, privacy_statement
from protocol.provider import ProviderKey
from protocol.publish import write_bundle
from protocol.signing import PrivateKey
from protocol.verified import VerifiedBundle

__all__ = [
    "Failure",
    "ReleaseGate",
    "Released",
    "Reply",
    "failure",
    "record_unprotected",
    "reply_unprotected",
    "write_federated",
    "write_unprotected",
]

Failure = Literal["train_failed", "data_missing", "budget", "policy", "bundle_mismatch", "busy"]
"""All that a coordinator is told about why a site does not answer (P-37, F-11)."""


@dataclass(frozen=True, kw_only=True)
class Released:
    """What left, and what is said about it."""

    release: str
    """Id of the release, as in the ledger."""
    digest: str
    """Payload digest of the file, hex."""
    statement: DpStatement
    """The signed claim, or why there is none."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One client's part of a federated round: these fields and no other (P-28, P-36)."""

    tensors: Mapping[str, Tensor]
    """Trainable tensors of the encoder by their names in the bundle, or the trained factors of updates, float32."""
    bundle: str
    """Payload digest of the style, hex."""
    round: int
    """From 1."""
    settings: Mapping[str, float | int | str]
    """Public numbers of the mechanism."""
    statement: DpStatement
    """Composed over everything that ever left."""
    num_examples: Literal[1] = 1
    """A constant: the true number would single out one photo (P-28)."""

    def __post_init__(self) -> None:
        """Refuse any other weight.

        Raises:
            PrivacyBudgetError: ``num_examples`` is not 1.
        """
        if self.num_examples != 1:
            raise PrivacyBudgetError("num_examples of a reply is 1", why="the number of photos is private (P-28)")


class ReleaseGate:
    """The door of one vault for adapters of one style."""

    def __init__(self, vault: Vault, style: LoadedStyle, *, tuned_on_private: str = NOT_STATED) -> None:
        """Bind vault and style.

        Args:
            vault: Held by this process.
            style: The verified bundle that was adapted.
            tuned_on_private: What was chosen by looking at private photos, as its owner says (P-30).
        """
        self._vault, self._style, self._tuned = vault, style, tuned_on_private

    def write_adapter(
        self, path: Path, adapted: Adapted, *, run: str, key: PrivateKey, provider: ProviderKey, overwrite: bool
    ) -> Released:
        """Write an adapter that may be shared, its statement inside.

        Args:
            path: The ``.mdfa`` file.
            adapted: What training under differential privacy made.
            run: Id of the run, as it was charged.
            key: The client's own adapter key.
            provider: The public half.
            overwrite: Whether an existing file is replaced.

        Raises:
            PolicyError: The weights are of test-time training.
            PrivacyBudgetError: They were not charged.
            TensorError: A tensor is not one that may leave.
            StorageError: The file exists or cannot be written.
        """
        self._check(adapted, run)
        refuse_existing([path], overwrite=overwrite)
        release, statement = self._record(run)
        public = replace(adapted, summary=_public(adapted.summary, self._charges(run)[-1]))
        digest = write_adapter(
            path, public, style=self._style, key=key, provider=provider, overwrite=overwrite,
            shared=Shared(bundle_id=release, dp=statement),
        )  # fmt: skip
        return Released(release=release, digest=digest, statement=statement)

    def reply(self, adapted: Adapted, *, run: str, federated_round: int) -> Reply:
        """Return what a coordinator gets of a run; the release is on record when this returns.

        Raises:
            PolicyError, PrivacyBudgetError, TensorError: As in ``write_adapter``.
        """
        self._check(adapted, run)
        _, statement = self._record(run)
        charge = self._charges(run)[-1]
        settings = asdict(charge.segment) | {"unit": charge.unit, "max_grad_norm": charge.max_grad_norm}
        return _reply(adapted, self._style, federated_round, settings, statement)

    def _charges(self, run: str) -> list[Charge]:
        return [charge for charge in self._vault.ledger.charges if charge.run == run]

    def _record(self, run: str) -> tuple[str, DpStatement]:
        release = str(uuid.uuid4())
        self._vault.record_release(release=release, run=run)
        return release, statement_of(self._vault.ledger, tuned_on_private=self._tuned)

    def _check(self, adapted: Adapted, run: str) -> None:
        refuse_test_time(adapted)
        charges = self._charges(run)
        require_charged(charges, adapted.summary.steps, self._style.digest)
        check_tensors(adapted.tensors, self._style.manifest)
        require_claim(self._vault.ledger)


def _reply(
    adapted: Adapted, style: LoadedStyle, federated_round: int, settings: Mapping[str, float | int | str],
    statement: DpStatement,
) -> Reply:  # fmt: skip
    check_factors(adapted.factors, style.manifest)
    tensors = adapted.factors or adapted.tensors
    return Reply(
        tensors={f"encoder.{name}": value.clone() for name, value in sorted(tensors.items())},
        bundle=style.digest, round=federated_round, settings=settings, statement=statement,
    )  # fmt: skip


def _public(summary: TrainingSummary, charge: Charge) -> TrainingSummary:
    """Keep of a run what is public: T and B0 instead of photos drawn, no seed, no time, no machine (P-37)."""
    return replace(summary, images_seen=summary.steps * charge.batch, seed=0, seconds=0.0, compute="")


# Without differential privacy --------------------------------------------------------


def record_unprotected(reason: str, photos: Path | None) -> str:
    """Write down that something made of photos is about to leave without protection (P-39).

    From then on nothing can be claimed about these photos: their statement says so,
    whether they have a vault now or get one later.

    Args:
        reason: Why; enters the file, and the ledger or a record beside the vaults.
        photos: What it was trained on; needed as soon as any photos of this user have a vault.

    Returns:
        Id of the release.

    Raises:
        ConfigError: It is not said which photos.
        DataError: There are no such photos.
        PolicyError: E_LINT, the reason holds a private detail.
        PrivacyBudgetError: Their vault is in use, or its ledger cannot be relied on.
        StorageError: It cannot be written down; nothing may leave.
    """
    lint_texts({"the reason": reason})
    if not reason.strip() or not reason.isprintable():
        raise ConfigError(
            "a release without privacy needs a reason, one line", fix='add --release-unprotected "REASON"'
        )
    release, source = str(uuid.uuid4()), None if photos is None else require_photos(photos)
    with held_vaults():  # nobody makes a vault of these photos meanwhile
        if source is None and places():
            raise ConfigError(
                "it is not said which photos these weights were trained on",
                why="some of your photos have a privacy budget, whose ledger must know what left unprotected",
                fix="add --photos DIR",
            )
        guarded = source is not None and find_place(source) is not None
        if not guarded:
            LooseRelease(release=release, reason=reason, photos=source.as_uri() if source else None).keep(source)
    if source is not None and guarded:
        with Vault.open(source, run="an unprotected release") as vault:
            vault.record_release(release=release, reason=reason)
    return release


def reply_unprotected(adapted: Adapted, style: LoadedStyle, *, federated_round: int, reason: str) -> Reply:
    """Return a federated reply about which nothing is guaranteed; ``guarantee: none`` and the reason go along (P-39).

    Whoever lets it leave this machine calls ``record_unprotected`` before.

    Args:
        adapted: What training without privacy made.
        style: The style that was adapted.
        federated_round: From 1.
        reason: Why it may leave.

    Raises:
        PolicyError: The weights are of test-time training.
        TensorError: A tensor is not one that may leave.
    """
    refuse_test_time(adapted)
    check_tensors(adapted.tensors, style.manifest)
    return _reply(adapted, style, federated_round, {}, no_guarantee(reason))


def write_federated(
    path: Path, adapted: Adapted, *, style: LoadedStyle, statement: DpStatement, federation: Federation, local: bool,
    key: PrivateKey, provider: ProviderKey, overwrite: bool,
) -> Released:  # fmt: skip
    """Write what a federation made: a mean of replies, each of which went through the gate of its site.

    With privacy it may be shared, since a mean of releases is post-processing.

    Args:
        path: The ``.mdfa`` file.
        adapted: The mean.
        style: The style that was adapted.
        statement: About the photos of every site; see ``joint_statement``.
        federation: The run.
        local: Whether a result without privacy is ``local-only``.
        key: Of the coordinator, role ``adapter``.
        provider: The public half.
        overwrite: Whether an existing file is replaced.

    Raises:
        TensorError: A tensor is not one that may leave.
        StorageError: The file exists or cannot be written.
    """
    refuse_test_time(adapted)
    check_tensors(adapted.tensors, style.manifest)
    refuse_existing([path], overwrite=overwrite)
    release = str(uuid.uuid4())
    shared = Shared(bundle_id=release, dp=statement) if statement.applied or not local else None
    digest = write_adapter(
        path, adapted, style=style, key=key, provider=provider, overwrite=overwrite, shared=shared,
        federation=federation,
    )  # fmt: skip
    return Released(release=release, digest=digest, statement=statement)


def write_unprotected(
    path: Path, adapter: VerifiedBundle, *, reason: str, photos: Path | None, key: PrivateKey,
    provider: ProviderKey, overwrite: bool,
) -> Released:  # fmt: skip
    """Sign a ``local-only`` adapter again as ``shareable``, with ``guarantee: none`` and the reason inside (P-39).

    Args:
        path: The new ``.mdfa`` file.
        adapter: Went through verification.
        reason: Why it may leave.
        photos: What it was trained on; see ``record_unprotected``.
        key: The client's own adapter key.
        provider: The public half.
        overwrite: Whether an existing file is replaced.

    Raises:
        ConfigError: It is no adapter, or may leave anyway; or as in ``record_unprotected``.
        StorageError: The file exists or cannot be written.
    """
    manifest = adapter.manifest
    if manifest.kind != "encoder-adapter":
        raise ConfigError("this file is no adapter", fix="name a .mdfa file")
    if manifest.release != "local-only":
        raise ConfigError("this adapter may leave as it is", why="it is marked shareable", fix="copy the file")
    refuse_existing([path], overwrite=overwrite)
    release, statement = record_unprotected(reason, photos), no_guarantee(reason)
    card = replace(manifest.privacy, dp=statement, statement=privacy_statement("encoder-adapter", statement))
    training = replace(manifest.provenance.training, seed=0)
    files = manifest.model.weights
    digest = write_bundle(
        path,
        manifest=replace(
            manifest, bundle=_renewed(manifest.bundle, release), provider=provider.info(), release="shareable",
            model=replace(manifest.model, weights=(), n_parameters=0), privacy=card, files=(),
            provenance=replace(manifest.provenance, training=training),
        ),
        members={file.file: adapter.read(file.file) for file in files},
        abs_max={file.file: file.abs_max for file in files}, key=key, provider=provider, overwrite=overwrite,
    )  # fmt: skip
    return Released(release=release, digest=digest, statement=statement)


def _renewed(info: BundleInfo, release: str) -> BundleInfo:
    now = datetime.now(UTC).replace(microsecond=0)
    life = info.expires - info.not_before
    return replace(info, id=release, created=now, not_before=now, expires=now + life)


def failure(error: BaseException) -> Failure:
    """Return all that a coordinator may know about an error: one word of a fixed list (P-37, U-46)."""
    words: tuple[tuple[type[BaseException], Failure], ...] = (
        (VaultBusyError, "busy"), (PrivacyBudgetError, "budget"), (DataError, "data_missing"),
        (FederationPolicyError, "policy"), (StorageError, "train_failed"), (ProtocolError, "bundle_mismatch"),
    )  # fmt: skip
    return next((word for kind, word in words if isinstance(error, kind)), "train_failed")
