"""The table of verification steps (B-25): one row a rule, in the order in which they are applied.

``verify`` applies them strictly, ``audit`` as far as it can; there is no other
list. A rule takes what earlier rules gave and gives more of the case. It looks
at nothing else, so a rule whose needs are not there cannot run.
"""

import contextlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from protocol import policy, steps
from protocol.container import Member
from protocol.encryption import Identity
from protocol.errors import ProtocolError
from protocol.manifest import Manifest
from protocol.statement import Resource, SignatureRecord, Statement
from protocol.storage import open_regular, storage_errors
from protocol.trust import PinnedKey, TrustStore

__all__ = ["DEFAULT_SIZE_LIMIT", "GIVEN_BY", "RULES", "Case", "Rule"]

DEFAULT_SIZE_LIMIT = 2 << 30
"""Bytes of the largest bundle that is opened without asking for more (B-3)."""


@dataclass(kw_only=True, eq=False, repr=False)
class Case:
    """One file under verification: what the caller asks, and what the rules found so far.

    A field that no rule has given yet does not exist.
    """

    path: Path
    trust: TrustStore
    now: datetime
    identity: Identity | None
    size_limit: int
    keep: bool = False
    """Whether step 11 keeps the members it hashes."""
    every: bool = False
    """Whether step 11 goes on after a member that is not as signed."""
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    """Closes the file and its plain text."""

    stream: BinaryIO = field(init=False)
    encrypted: bool = field(init=False)
    plain: BinaryIO = field(init=False)
    members: Mapping[str, Member] = field(init=False)
    record: SignatureRecord = field(init=False)
    signer: PinnedKey = field(init=False)
    payload: bytes = field(init=False)
    statement: Statement = field(init=False)
    resources: Mapping[str, Resource] = field(init=False)
    manifest: Manifest = field(init=False)
    tables: Mapping[str, bytes] = field(init=False)
    copies: dict[str, bytes] = field(init=False)

    def __post_init__(self) -> None:
        """Refuse a time that could mean several."""
        if self.now.tzinfo is None:
            message = "now needs a time zone"
            raise ValueError(message)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One row of the table."""

    number: int
    """Step of B-25; some steps have several rules."""
    name: str
    """What is checked, in a few words."""
    needs: tuple[str, ...]
    """Fields of the case that must be there."""
    check: Callable[[Case], str]
    """Raises, or gives more of the case and returns what was found, one phrase."""

    def run(self, case: Case) -> str:
        """Apply the rule.

        Raises:
            ProtocolError: it is broken; the error names the step.
        """
        try:
            with storage_errors(case.path):
                return self.check(case)
        except ProtocolError as error:
            error.step = self.number
            raise


def _open(case: Case) -> str:
    case.stream = case.stack.enter_context(open_regular(case.path))
    return f"{steps.check_size(case.stream, case.size_limit)} bytes"


def _start(case: Case) -> str:
    case.encrypted = steps.check_start(case.stream)
    return "an age file" if case.encrypted else "a container"


def _decrypt(case: Case) -> str:
    if not case.encrypted:
        case.plain = case.stream
        return "not encrypted"
    # Mode 0600, and without a name from the start where the system can do that (B-25).
    plain: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - the case closes it
    case.stack.callback(_drop, plain)
    size = steps.decrypt(case.stream, plain, case.identity)
    case.plain = plain
    return f"{size} bytes, with your own key"


def _drop(plain: BinaryIO) -> None:
    """Close a temporary file; on a full disk the rest of it cannot be written, and need not be."""
    with contextlib.suppress(OSError):
        plain.close()


def _container(case: Case) -> str:
    case.members = steps.read_members(case.plain)
    return f"{len(case.members)} members"


def _record(case: Case) -> str:
    case.record = steps.read_signature(case.plain, case.members)
    return "well formed"


def _signer(case: Case) -> str:
    case.signer = policy.find_signer(case.record, case.trust, lambda: steps.claimed_provider(case.plain, case.members))
    return f"{case.signer.label}, {case.signer.fingerprint}"


def _key(case: Case) -> str:
    policy.check_key(case.signer, case.now)
    return f"until {case.signer.key.expires:%Y-%m-%d}"


def _signature(case: Case) -> str:
    case.payload = case.record.envelope.verify(case.signer.public_key)
    return "made by this key"


def _statement(case: Case) -> str:
    case.statement = Statement.from_bytes(case.payload)
    return case.statement.kind


def _members(case: Case) -> str:
    case.resources = steps.match_members(case.statement, case.members)
    return f"{len(case.resources)} signed"


def _manifest(case: Case) -> str:
    case.manifest = steps.read_manifest(case.plain, case.members, case.statement)
    return f"format {case.manifest.format_version}"


def _provider(case: Case) -> str:
    policy.check_provider(case.manifest, case.statement, case.signer)
    return f"may sign {case.statement.kind}s"


def _validity(case: Case) -> str:
    policy.check_validity(case.manifest, case.now)
    return f"until {case.manifest.bundle.expires:%Y-%m-%d}"


def _release(case: Case) -> str:
    case.trust.check_release(case.signer, case.manifest.bundle, case.record.payload_digest)
    return f"sequence {case.manifest.bundle.sequence}"


def _audience(case: Case) -> str:
    return policy.check_audience(case.manifest.usage, case.identity)


def _terms(case: Case) -> str:
    return policy.check_acknowledged(case.manifest.usage, case.record.payload_digest, case.trust, case.path)


def _contents(case: Case) -> str:
    tables: dict[str, bytes] = {}
    copies: dict[str, bytes] = {}
    broken: list[ProtocolError] = []
    for name, resource in case.resources.items():
        try:
            if case.keep:
                copies[name], tables[name] = steps.read_hashed(case.plain, case.members[name], resource)
            else:
                tables[name] = steps.hash_member(case.plain, case.members[name], resource)
        except ProtocolError as error:
            if not case.every:
                raise
            broken.append(error)
    if broken:
        broken[0].why = ", ".join(f"{error.member} is not as signed" for error in broken)
        raise broken[0]
    case.tables, case.copies = tables, copies
    return f"{sum(resource.size for resource in case.resources.values())} bytes hashed"


def _weights(case: Case) -> str:
    return f"{steps.check_weights(case.manifest, case.resources, case.tables)} tensors"


def _rule(number: int, name: str, check: Callable[[Case], str], *needs: str) -> Rule:
    return Rule(number=number, name=name, needs=needs, check=check)


RULES: tuple[Rule, ...] = (
    _rule(1, "regular file within the size limit", _open),
    _rule(2, "first bytes of a bundle", _start, "stream"),
    _rule(3, "decryption", _decrypt, "stream", "encrypted"),
    _rule(4, "canonical container", _container, "plain"),
    _rule(5, "signature record", _record, "members"),
    _rule(6, "signer pinned", _signer, "record"),
    _rule(6, "key in force", _key, "signer"),
    _rule(7, "signature", _signature, "record", "signer"),
    _rule(8, "signed statement", _statement, "payload"),
    _rule(8, "exactly the signed members", _members, "statement"),
    _rule(9, "manifest", _manifest, "resources"),
    _rule(10, "provider and role", _provider, "manifest"),
    _rule(10, "validity", _validity, "manifest"),
    _rule(10, "not withdrawn, not older than seen before", _release, "manifest"),
    _rule(10, "addressed to", _audience, "manifest"),
    _rule(10, "terms", _terms, "manifest"),
    _rule(11, "contents of every member", _contents, "resources"),
    _rule(12, "tensor tables", _weights, "manifest", "tables"),
)
"""Every rule; each needs only what those above it give."""

GIVEN_BY: Mapping[str, int] = {
    "stream": 1,
    "encrypted": 2,
    "plain": 3,
    "members": 4,
    "record": 5,
    "signer": 6,
    "payload": 7,
    "statement": 8,
    "resources": 8,
    "manifest": 9,
    "tables": 11,
}
"""Step that gives a field of the case."""
