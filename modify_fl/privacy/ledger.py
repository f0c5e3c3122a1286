"""The vault: photos, a budget, and a ledger of what was spent on them (P-40 to P-47).

The budget belongs to the photos, not to a run, bundle, model or server. A block
of steps is charged, and on the disk, before it runs; a crash leaves the charge
in place. Whatever makes the ledger doubtful ends in ``PrivacyBudgetError``.

Guarantees: under the lock of one process, the sum of all charges that were ever
acknowledged keeps (epsilon_max, delta)-DP of everything computed from them, by
an RDP filter at one order (Feldman and Zrnic 2021), whatever decided about the
settings of later runs. Assumed: the machine of the client is trusted, and its
disk is not set back as a whole (P-8).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from modify_fl.errors import ConfigError, PrivacyBudgetError, VaultBusyError
from modify_fl.privacy.accounting import Segment, epsilon_at, noise_multiplier_for, rdp_of, require_delta
from modify_fl.privacy.fingerprints import load_secret, take_fingerprints
from modify_fl.privacy.making import make_vault
from modify_fl.privacy.places import Marker, Place, vaults_folder
from modify_fl.privacy.records import Budget, Charge, Entry, Release
from modify_fl.privacy.settings import DpSettings, Unit
from modify_fl.privacy.sharing import warn_of_overlaps
from modify_fl.privacy.state import VaultState, read_vault
from protocol.storage import PRIVATE, atomic_writer, exclusive_lock, storage_errors

__all__ = ["Receipt", "Vault", "VaultState", "read_vault"]

_HOLDER = "holder"


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """Proof that a block of steps was charged and is on the disk."""

    vault: str
    """Id of the vault."""
    run: str
    """Id of the run."""
    sequence: int
    """Number of the line in the ledger."""
    steps: int
    """How many steps may run now."""


class Vault:
    """A vault that this process holds; made by ``Vault.open``."""

    def __init__(self, state: VaultState) -> None:
        """Look at a vault; only ``open`` makes one that can be charged."""
        self._place, self._photos, self._marked = state.place, state.photos, state.marked
        self._open = False
        self.ledger = state.ledger
        self.warnings: tuple[str, ...] = ()
        """What the user should know: photos that other vaults hold too (P-47)."""

    @classmethod
    def create(
        cls,
        photos: Path,
        *,
        epsilon_max: float = 8.0,
        delta: float = 1e-5,
        unit: Unit = "image",
        order: float | None = None,
    ) -> tuple[VaultState, tuple[str, ...]]:
        """Make the vault of some photos and set its budget, once (P-46).

        Args:
            photos: A folder, or a ZIP file.
            epsilon_max: Most that may ever be spent.
            delta: Of every claim about these photos.
            unit: What is protected as one; every run must protect the same.
            order: alpha*, one of ``ORDERS``; the best one for the default schedule when omitted.

        Returns:
            The vault, and warnings.

        Raises:
            ConfigError: A number is out of range.
            DataError: There are no photos.
            PrivacyBudgetError: These photos have a vault, or delta is not below 1 / number of photos.
            StorageError: A file cannot be written.
        """
        return make_vault(photos, epsilon_max=epsilon_max, delta=delta, unit=unit, order=order)

    @classmethod
    @contextmanager
    def open(cls, photos: Path, *, run: str = "") -> Iterator["Vault"]:
        """Hold the vault of some photos for the length of the block; nobody else can charge it.

        Args:
            photos: The folder or ZIP file.
            run: Id of the run, shown to whoever comes second.

        Raises:
            DataError: There is no such place.
            PrivacyBudgetError: No vault; another process holds it (P-44); or the
                ledger cannot be relied on (P-43).
            StorageError: A file cannot be read or written.
        """
        place = read_vault(photos).place
        with _held(place):
            vault = cls(read_vault(photos))  # again, now that nobody else can write
            vault._open = True
            vault._name_holder(run)
            try:
                vault._heal_marker()
                vault._compare_photos()
                yield vault
            finally:
                vault._open = False
                with suppress(OSError):
                    (place.folder / _HOLDER).unlink(missing_ok=True)

    @property
    def id(self) -> str:
        """Id of the vault."""
        return self._place.vault

    @property
    def delta(self) -> float:
        """Delta of every claim about these photos."""
        return self.ledger.opening.delta

    @property
    def unit(self) -> Unit:
        """What is protected as one."""
        return self.ledger.opening.unit

    @property
    def private_folder(self) -> Path:
        """Folder for previews and logs of these photos, mode 0700, outside the photo folder (P-38)."""
        folder = self._place.folder / "private"
        with storage_errors(folder):
            folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def noise_multiplier_for(self, sampling_rate: float, steps: int, epsilon: float | None = None) -> float:
        """Return the least noise with which ``steps`` steps fit into what is left.

        Args:
            sampling_rate: q.
            steps: T.
            epsilon: Most that these steps alone may spend, at the best order; no
                limit but what is left when omitted.

        Raises:
            PrivacyBudgetError: No noise is enough.
        """
        order = self.ledger.opening.order
        left = epsilon_at(order, self.ledger.limit - self.ledger.spent, self.delta)
        fitting = noise_multiplier_for(left, self.delta, sampling_rate, steps, orders=(order,))
        if epsilon is None:
            return fitting
        return max(fitting, noise_multiplier_for(epsilon, self.delta, sampling_rate, steps))

    def charge(
        self, *, run: str, bundle: str, settings: DpSettings, steps: int, deterministic: bool = False
    ) -> Receipt:
        """Charge a block of steps before it runs (P-41, P-45).

        Args:
            run: Id of the run.
            bundle: Payload digest of the style, hex.
            settings: What runs.
            steps: Length of the block.
            deterministic: The noise is repeatable: a test, without any guarantee (P-3).

        Returns:
            A receipt; the charge is on the disk, and stays whatever happens now.

        Raises:
            PrivacyBudgetError: The block would exceed the budget, or protects
                another unit, or at another delta; nothing was charged.
            StorageError: The ledger cannot be written; the block must not run.
        """
        self._require_open()
        self._require_same_claim(settings)
        require_delta(self.delta, settings.n_public)
        segment = Segment(sampling_rate=settings.sampling_rate, noise_multiplier=settings.noise_multiplier, steps=steps)
        rdp = rdp_of(segment, self.ledger.opening.orders)
        if not self.ledger.allows(rdp):
            raise self._exceeded(steps, rdp)
        new = (segment.sampling_rate, segment.noise_multiplier) not in self.ledger.rdp_of_step
        self._append(
            Charge(
                run=run, bundle=bundle, unit=settings.unit, sampling_rate=settings.sampling_rate,
                noise_multiplier=settings.noise_multiplier, max_grad_norm=settings.max_grad_norm,
                batch=settings.batch, n_public=settings.n_public, steps=steps, deterministic=deterministic,
                rdp=rdp_of(replace(segment, steps=1), self.ledger.opening.orders) if new else None,
            )
        )  # fmt: skip
        return Receipt(vault=self.id, run=run, sequence=self.ledger.sequence, steps=steps)

    def record_release(self, *, release: str, run: str | None = None, reason: str | None = None) -> None:
        """Write down that something is about to leave, before it does; ``ReleaseGate`` calls this.

        Args:
            release: Id of what leaves.
            run: The run that made it under differential privacy.
            reason: Why it leaves without (P-39).
        """
        self._require_open()
        self._append(Release(release=release, run=run, reason=reason))

    def raise_budget(self, epsilon_max: float, reason: str) -> None:
        """Raise the budget; the reason stays in the ledger (P-46).

        Raises:
            ConfigError: It would not rise, or there is no reason.
        """
        self._require_open()
        if not self.ledger.epsilon_max < epsilon_max < float("inf"):
            raise ConfigError(
                f"the budget can only rise: it is epsilon {self.ledger.epsilon_max:g}, asked for is {epsilon_max:g}",
                fix="name a larger epsilon",
            )
        if not reason.strip() or not reason.isprintable():
            raise ConfigError("raising the budget needs a reason, one line", fix="say why with --reason TEXT")
        self._append(Budget(epsilon_max=epsilon_max, reason=reason))

    # Inside -------------------------------------------------------------------

    def _require_open(self) -> None:
        if not self._open:
            message = "the vault was closed"
            raise RuntimeError(message)

    def _append(self, entry: Entry) -> None:
        longer = self.ledger.extended(entry)
        self._place.write(longer)
        self.ledger = longer
        self._heal_marker()

    def _heal_marker(self) -> None:
        if self._marked:  # after the ledger: a marker may lag behind it, never run ahead
            Marker(vault=self.id, sequence=self.ledger.sequence).write(self._photos)

    def _name_holder(self, run: str) -> None:
        with atomic_writer(self._place.folder / _HOLDER, mode=PRIVATE, overwrite=True) as stream:
            stream.write((f"run {run}" if run else f"process {os.getpid()}").encode())

    def _compare_photos(self) -> None:
        """Take up photos that came since, and look for other vaults that hold them too (P-47)."""
        take_fingerprints(self._photos, load_secret(vaults_folder())).save(self._place.folder)
        self.warnings = warn_of_overlaps(self._place)

    def _require_same_claim(self, settings: DpSettings) -> None:
        for name, got, ours in (("unit", settings.unit, self.unit), ("delta", settings.delta, self.delta)):
            if got != ours:
                raise PrivacyBudgetError(
                    f"this vault was made for {name} {ours}, the run has {name} {got}",
                    why="charges of different claims do not add up",
                    fix=f"use {name} {ours}",
                )

    def _exceeded(self, steps: int, rdp: tuple[float, ...]) -> PrivacyBudgetError:
        ledger, opening = self.ledger, self.ledger.opening
        share = 100 / ledger.limit
        needed = rdp[opening.orders.index(opening.order)]
        return PrivacyBudgetError(
            f"the privacy budget of these photos does not allow {steps} more steps with these settings",
            why=f"of epsilon {ledger.epsilon_max:g} at delta {opening.delta:g}, unit {opening.unit}, "
            f"{ledger.spent * share:.1f} % is spent, and they would take {needed * share:.1f} %",
            fix="take fewer steps or more noise, or raise the budget on purpose: "
            "content-client privacy budget --raise-to E --reason TEXT",
        )


@contextmanager
def _held(place: Place) -> Iterator[None]:
    """Hold the lock of a vault, or say who does (P-44)."""
    try:
        with exclusive_lock(place.folder / "lock", wait=False):
            yield
    except BlockingIOError:
        try:
            holder = (place.folder / _HOLDER).read_text(encoding="utf-8", errors="replace")[:200]
        except OSError:  # it has not said so yet
            holder = "another process"
        raise VaultBusyError(
            f"the vault of these photos is in use by {holder}",
            why="two runs at once could spend the same budget twice",
            fix="wait until it has ended, or end it",
        ) from None
