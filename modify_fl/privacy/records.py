"""The lines of a vault's ledger: what each holds, and the chain that binds them (P-41 to P-43).

JSON lines; each holds the SHA-256 of the line before, so that none can be
changed, dropped or moved without breaking all that follow. That lines are
missing at the end is seen by the marker in the photo folder (``ledger``).
Reading is strict: what is not exactly a ledger of this version is refused.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Literal

from modify_fl.errors import PrivacyBudgetError
from modify_fl.privacy.accounting import Segment, best_epsilon, epsilon_at, overhead
from protocol.canonical import Json, dump_json, parse_json
from protocol.errors import ProtocolError
from protocol.schema import Bound, Count, Hex64, Line, Positive, Text, decode, encode

__all__ = ["SCHEMA", "Budget", "Charge", "Entry", "Ledger", "Opening", "Release", "damaged"]

SCHEMA = 1
"""Version of the lines; a ledger of another one is refused (P-43)."""

_NAME = "ledger"
_START = "0" * 64
_UNWRITTEN = datetime.fromtimestamp(0, UTC)
_MAX_LINE = 1 << 16

_Rate = Annotated[float, Bound(low=0, high=1)]
_Amount = Annotated[float, Bound(low=0)]
_Order = Annotated[float, Bound(low=1)]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What every line holds; filled in when the line is added."""

    sequence: Count = 0
    """Number of the line, from 0."""
    previous: Hex64 = _START
    """SHA-256 of the line before, without its line break; zeros in the first line."""
    time: datetime = _UNWRITTEN
    """By the clock of this machine, whole seconds; nothing depends on it."""


@dataclass(frozen=True, kw_only=True)
class Opening(Entry):
    """The first line: what was settled when the vault was made (P-45, P-46)."""

    kind: Literal["vault"] = "vault"
    schema: int = SCHEMA
    vault: Line
    """Id of the vault."""
    unit: Literal["image", "person"]
    """What is protected as one."""
    epsilon_max: _Amount
    """Most that may be spent."""
    delta: _Rate
    """Of every claim about this vault."""
    order: _Order
    """alpha*, at which spending is limited; one of ``orders``."""
    orders: tuple[_Order, ...]
    """Where RDP is kept."""


@dataclass(frozen=True, kw_only=True)
class Charge(Entry):
    """Steps that were paid for before they ran (P-41)."""

    kind: Literal["charge"] = "charge"
    run: Line
    """Id of the run."""
    bundle: Hex64
    """Payload digest of the style that is adapted."""
    unit: Literal["image", "person"]
    sampling_rate: _Rate
    noise_multiplier: _Amount
    max_grad_norm: _Amount
    batch: Positive
    n_public: Positive
    steps: Positive
    deterministic: bool
    """The noise did not come from the system's generator: a test, and no guarantee (P-3)."""
    rdp: tuple[_Amount, ...] | None = None
    """RDP of one step at each of the vault's orders; in the first line of its q and sigma only."""

    @property
    def mechanism(self) -> tuple[float, float]:
        """The two numbers that RDP depends on: q and sigma."""
        return self.sampling_rate, self.noise_multiplier

    @property
    def whole_run(self) -> str:
        """The run, without the number of a round: a federated round is a part of its run."""
        run, _, number = self.run.rpartition("/")
        return run if run and number.isdecimal() else self.run

    @property
    def segment(self) -> Segment:
        """The mechanism that was run."""
        return Segment(sampling_rate=self.sampling_rate, noise_multiplier=self.noise_multiplier, steps=self.steps)


@dataclass(frozen=True, kw_only=True)
class Release(Entry):
    """Something that was made to leave this machine; written before it is."""

    kind: Literal["release"] = "release"
    release: Line
    """Id of what left."""
    run: Line | None = None
    """The run that made it; none where no differential privacy ran."""
    reason: Text | None = None
    """Why it left without differential privacy (P-39); none where it was protected."""


@dataclass(frozen=True, kw_only=True)
class Budget(Entry):
    """The budget was raised by its owner (P-46)."""

    kind: Literal["budget"] = "budget"
    epsilon_max: _Amount
    reason: Text


_KINDS: Mapping[str, type[Entry]] = {"vault": Opening, "charge": Charge, "release": Release, "budget": Budget}


def damaged(what: str) -> PrivacyBudgetError:
    """Return the refusal of a ledger that cannot be relied on (P-43)."""
    return PrivacyBudgetError(
        f"the privacy ledger of these photos cannot be relied on: {what}",
        why="what was spent is not known for certain, so nothing more may be spent",
        fix="put the ledger back from a backup that is not older than the marker in the photo folder",
    )


@dataclass(frozen=True)
class Ledger:
    """All lines of one vault; frozen, every change is a new ledger."""

    entries: tuple[Entry, ...]
    lines: tuple[bytes, ...]
    """The same as stored, without line breaks."""
    rdp_of_step: Mapping[tuple[float, float], tuple[float, ...]] = field(default_factory=dict, compare=False)
    """RDP of one step at each of the vault's orders, by q and sigma; as the first charge of each has it."""

    @classmethod
    def begin(cls, opening: Opening) -> "Ledger":
        """Return the ledger of a new vault.

        Raises:
            PrivacyBudgetError: A value of the first line is not allowed.
        """
        return cls((), ()).extended(opening)

    @classmethod
    def parse(cls, data: bytes) -> "Ledger":
        """Read a ledger.

        Raises:
            PrivacyBudgetError: A line is missing, changed, cut short or of another version.
        """
        *whole, rest = data.split(b"\n")
        if rest or not whole:
            raise damaged("its last line is cut short" if rest else "it is empty")
        ledger = cls((), ())
        for line in whole:
            ledger = ledger._with_line(line)
        return ledger

    def _with_line(self, line: bytes) -> "Ledger":
        entry = _decode(line, len(self.lines))
        if entry.sequence != len(self.lines) or entry.previous != self.head:
            raise damaged(f"line {len(self.lines) + 1} does not follow the one before")
        if isinstance(entry, Opening) != (not self.lines):
            raise damaged(f"line {len(self.lines) + 1} is of the wrong kind")
        known = self._with_rdp(entry) if isinstance(entry, Charge) else self.rdp_of_step
        return Ledger((*self.entries, entry), (*self.lines, line), known)

    def _with_rdp(self, charge: Charge) -> Mapping[tuple[float, float], tuple[float, ...]]:
        new = charge.mechanism not in self.rdp_of_step
        if (charge.rdp is not None) != new or (charge.rdp and len(charge.rdp) != len(self.opening.orders)):
            raise damaged(f"line {len(self.lines) + 1} does not have the RDP of its mechanism once")
        return {**self.rdp_of_step, charge.mechanism: charge.rdp} if charge.rdp else self.rdp_of_step

    def extended(self, entry: Entry) -> "Ledger":
        """Return the ledger with one more line; ``sequence``, ``previous`` and ``time`` of ``entry`` are filled in.

        Raises:
            PrivacyBudgetError: A value is not allowed in a line.
        """
        now = datetime.now(UTC).replace(microsecond=0)
        return self._with_line(
            dump_json(encode(replace(entry, sequence=len(self.lines), previous=self.head, time=now)))
        )

    def to_bytes(self) -> bytes:
        """Write the ledger, one line each."""
        return b"".join(line + b"\n" for line in self.lines)

    @property
    def head(self) -> str:
        """SHA-256 of the last line."""
        return hashlib.sha256(self.lines[-1]).hexdigest() if self.lines else _START

    @property
    def sequence(self) -> int:
        """Number of the last line."""
        return len(self.lines) - 1

    @property
    def opening(self) -> Opening:
        """The first line."""
        first = self.entries[0]
        assert isinstance(first, Opening)  # noqa: S101 - ``_with_line`` let nothing else stand first
        return first

    @property
    def charges(self) -> tuple[Charge, ...]:
        """All charges, oldest first."""
        return tuple(entry for entry in self.entries if isinstance(entry, Charge))

    @property
    def releases(self) -> tuple[Release, ...]:
        """All releases, oldest first."""
        return tuple(entry for entry in self.entries if isinstance(entry, Release))

    @property
    def raised(self) -> tuple[Budget, ...]:
        """All raises of the budget, oldest first."""
        return tuple(entry for entry in self.entries if isinstance(entry, Budget))

    @property
    def epsilon_max(self) -> float:
        """The budget in force."""
        return self.raised[-1].epsilon_max if self.raised else self.opening.epsilon_max

    # Spending -------------------------------------------------------------

    @property
    def steps(self) -> Mapping[tuple[float, float], int]:
        """Steps that were charged, by q and sigma."""
        steps: Counter[tuple[float, float]] = Counter()
        for charge in self.charges:
            steps[charge.mechanism] += charge.steps
        return steps

    @property
    def rdp(self) -> tuple[float, ...]:
        """Summed RDP at each of the vault's orders: runs on the same photos compose in sequence (P-34)."""
        parts = [[count * value for value in self.rdp_of_step[at]] for at, count in self.steps.items()]
        return tuple(map(math.fsum, zip(*parts, strict=True))) or (0.0,) * len(self.opening.orders)

    @property
    def epsilon(self) -> float:
        """Epsilon of all charges together; 0 without any.

        A single schedule: the best order. Else alpha* alone, because the best of many
        orders is no bound where a later run, its settings or its length were chosen
        after seeing earlier results (P-45, ADR 13).
        """
        if not self.charges:
            return 0.0
        if self.single_schedule:
            return best_epsilon(self.rdp, self.opening.delta, self.opening.orders)[0]
        return epsilon_at(self.opening.order, self.spent, self.opening.delta)

    @property
    def single_schedule(self) -> bool:
        """Whether all charges are of one run with one mechanism, which was fixed before its first step (P-27)."""
        return len({(charge.whole_run, charge.mechanism) for charge in self.charges}) == 1

    @property
    def spent(self) -> float:
        """RDP at alpha*, what the filter counts."""
        return self.rdp_at(self.opening.order)

    def keeps(self, order: float) -> bool:
        """Return whether RDP is known at this order."""
        return order in self.opening.orders

    def rdp_at(self, order: float) -> float:
        """Return the summed RDP at one of the vault's orders."""
        return self.rdp[self.opening.orders.index(order)]

    @property
    def limit(self) -> float:
        """Most RDP at alpha* that keeps epsilon within the budget."""
        return self.epsilon_max - overhead(self.opening.order, self.opening.delta)

    def allows(self, rdp: Sequence[float]) -> bool:
        """Return whether steps with this RDP at the vault's orders, all together, still fit (P-45)."""
        return self.spent + rdp[self.opening.orders.index(self.opening.order)] <= self.limit


def _decode(line: bytes, index: int) -> Entry:
    where = f"line {index + 1}"
    if len(line) > _MAX_LINE:
        raise damaged(f"{where} is too long")
    try:
        value = parse_json(line, member=_NAME)
        entry = decode(_kind(value, where), value, member=_NAME)
    except ProtocolError as error:
        raise damaged(f"{where} is not what this version writes") from error
    if isinstance(entry, Opening) and entry.order not in entry.orders:
        raise damaged(f"{where} limits spending at an order that is not kept")
    return entry


def _kind(value: Json, where: str) -> type[Entry]:
    if not isinstance(value, dict):
        raise damaged(f"{where} is no object")
    if "schema" in value and value["schema"] != SCHEMA:
        raise damaged(f"its version is {value['schema']!r:.20}, this program knows {SCHEMA}")
    kind = _KINDS.get(str(value.get("kind")))
    if kind is None:
        raise damaged(f"{where} is of an unknown kind")
    return kind
