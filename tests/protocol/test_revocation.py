"""Revocations: the file, and what each number may say (B-40, B-41)."""

import base64
import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from bundlekit import CREATED, EXPIRES, NOW, OTHER, OTHER_KEY, STUDIO, STUDIO_KEY
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.canonical import Json, dump_json
from protocol.dsse import Envelope, PrivateKey
from protocol.errors import KeyFileError, ProtocolError, StorageError, VerificationError
from protocol.provider import KEY_PAYLOAD_TYPE, rotate_provider_key
from protocol.revocation import (
    MAX_REVOCATION,
    REVOCATION_PAYLOAD_TYPE,
    Revocation,
    SignedRevocation,
    extend_revocation,
    issue_revocation,
    read_revocation,
    self_revocation,
    write_revocation,
)

SECOND_KEY = ec.derive_private_key(0x5D11, ec.SECP256R1())
SECOND = rotate_provider_key(STUDIO_KEY, STUDIO, SECOND_KEY, not_before=NOW, expires=EXPIRES)
STYLE = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
DIGEST, OTHER_DIGEST = "a" * 64, "b" * 64
SOON = NOW + timedelta(days=90)
LIST = issue_revocation(
    STUDIO_KEY,
    STUDIO,
    number=3,
    issued=NOW,
    next_update=SOON,
    keys={OTHER.fingerprint: "stolen"},
    bundles={DIGEST: "wrong pictures"},
    min_sequence={STYLE: 4},
)


def test_file_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "studio.mdfyrev"
    write_revocation(path, LIST)
    read = read_revocation(path)
    assert (read.provider_id, read.number) == (STUDIO.provider_id, 3)
    opened = read.open([STUDIO])
    assert opened == LIST
    assert (opened.issued, opened.next_update, opened.signer) == (NOW, SOON, STUDIO)
    assert (opened.keys, opened.bundles) == ({OTHER.fingerprint: "stolen"}, {DIGEST: "wrong pictures"})
    assert opened.min_sequence == {STYLE: 4}
    assert path.stat().st_mode & 0o777 == 0o644


def test_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "studio.mdfyrev"
    write_revocation(path, LIST)
    with pytest.raises(StorageError):
        write_revocation(path, LIST)
    write_revocation(path, LIST, overwrite=True)


def test_kept_back_file_is_private(tmp_path: Path) -> None:
    # B-41: whoever holds a ready self-revocation can end the key.
    path = tmp_path / "studio.revoke.mdfyrev"
    write_revocation(path, LIST, private=True)
    assert path.stat().st_mode & 0o777 == 0o600


def test_text_round_trip() -> None:
    again = SignedRevocation.from_text(LIST.signed.to_text(), source="x")
    assert again == LIST.signed
    assert "\n" not in LIST.signed.to_text()


def test_equal_inputs_give_equal_files() -> None:
    again = issue_revocation(
        STUDIO_KEY, STUDIO, number=3, issued=NOW, next_update=SOON, keys=LIST.keys, bundles=LIST.bundles,
        min_sequence=LIST.min_sequence,
    )  # fmt: skip
    assert again.signed.to_text() == LIST.signed.to_text()


def test_payload_type_is_that_of_the_rules() -> None:
    assert json.loads(LIST.signed.to_text())["payloadType"] == "application/vnd.mdfy.revocation+json"


# --- whose signature ------------------------------------------------------------------------


def test_any_known_key_of_the_provider_may_have_signed() -> None:
    newer = issue_revocation(SECOND_KEY, SECOND, number=1, issued=NOW)
    opened = newer.signed.open([OTHER, STUDIO, SECOND])
    assert opened.signer == SECOND


def unopened(signed: SignedRevocation, *keys: object) -> str:
    with pytest.raises(VerificationError) as caught:
        signed.open(keys)  # type: ignore[arg-type]
    return caught.value.code


def test_no_key_no_record() -> None:
    assert unopened(LIST.signed) == "E_SIG_BAD"
    assert unopened(LIST.signed, OTHER, SECOND) == "E_SIG_BAD"


def resigned(change: dict[str, Json], key: PrivateKey = STUDIO_KEY, kind: str = REVOCATION_PAYLOAD_TYPE) -> Json:
    """Change the record of the list and sign it anew."""
    record = {**json.loads(LIST.signed.envelope.payload), **change}
    return Envelope.signed(kind, dump_json(record), key).to_json()


def test_provider_cannot_revoke_for_another() -> None:
    # Signed by a pinned key, in the name of a provider that it does not belong to.
    foreign = SignedRevocation.from_json(resigned({}, OTHER_KEY), source="x")
    assert unopened(foreign, OTHER, STUDIO) == "E_SIG_BAD"


def test_forged_record_is_refused() -> None:
    value = json.loads(LIST.signed.to_text())
    payload = base64.b64decode(value["payload"]).replace(b'"number":3', b'"number":4')
    forged = SignedRevocation.from_json({**value, "payload": base64.b64encode(payload).decode()}, source="x")
    assert forged.number == 4
    assert unopened(forged, STUDIO) == "E_SIG_BAD"


def test_claims_alone_open_nothing() -> None:
    lying = SignedRevocation(envelope=LIST.signed.envelope, provider_id=OTHER.provider_id, number=9)
    assert unopened(lying, STUDIO, OTHER) == "E_SIG_BAD"
    assert (
        SignedRevocation(envelope=LIST.signed.envelope, provider_id=STUDIO.provider_id, number=9).open([STUDIO]).number
        == 3
    )


def test_issuing_needs_the_private_key() -> None:
    with pytest.raises(VerificationError) as caught:
        issue_revocation(OTHER_KEY, STUDIO, number=1, issued=NOW)
    assert caught.value.code == "E_SIG_BAD"


# --- form -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"format": "mdfyrev/2"},
        {"extra": 1},
        {"provider_id": "x"},
        {"number": -1},
        {"number": True},
        {"issued": "today"},
        {"next_update": "2026-06-01T00:00:00Z"},  # not after ``issued``
        {"next_update": None},
        {"keys": {"SHA256:short": "x"}},
        {"keys": {OTHER.fingerprint: ""}},
        {"keys": {OTHER.fingerprint: "a\x1b[31m"}},
        {"keys": {OTHER.fingerprint: "x" * 201}},
        {"keys": [OTHER.fingerprint]},
        {"bundles": {DIGEST.upper(): "x"}},
        {"bundles": {DIGEST: 1}},
        {"min_sequence": {STYLE.upper(): 1}},
        {"min_sequence": {STYLE: 0}},
        {"min_sequence": {STYLE: "1"}},
    ],
)
def test_record_that_breaks_a_rule(change: dict[str, Json]) -> None:
    with pytest.raises(KeyFileError) as caught:
        SignedRevocation.from_json(resigned(change), source="x.mdfyrev")
    assert caught.value.code == "E_KEYFILE"


def test_other_documents_are_no_revocation() -> None:
    with pytest.raises(KeyFileError):
        SignedRevocation.from_json(resigned({}, kind=KEY_PAYLOAD_TYPE), source="x")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"not json", b"\xff", b'{"payload":"","signatures":[]}'])
def test_files_that_are_no_revocation(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.mdfyrev"
    path.write_bytes(data)
    with pytest.raises(KeyFileError):
        read_revocation(path)
    with pytest.raises(KeyFileError):
        SignedRevocation.from_text(data.decode("latin-1"), source="x")


def test_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mdfyrev"
    path.write_bytes(b" " * (MAX_REVOCATION + 1))
    with pytest.raises(StorageError):
        read_revocation(path)


def test_what_is_issued_can_be_read(tmp_path: Path) -> None:
    many = {f"{number:064x}": "r" * 60 for number in range(1100)}
    path = tmp_path / "x.mdfyrev"
    write_revocation(path, issue_revocation(STUDIO_KEY, STUDIO, number=1, issued=NOW, bundles=many))
    assert len(read_revocation(path).open([STUDIO]).bundles) == 1100
    with pytest.raises(KeyFileError, match="longer than"):
        issue_revocation(STUDIO_KEY, STUDIO, number=1, issued=NOW, bundles=dict.fromkeys(many, "r" * 200))


@pytest.mark.parametrize(
    "change",
    [
        {"number": -1},
        {"issued": datetime(2026, 1, 1)},  # noqa: DTZ001 - the point of the test
        {"bundles": {"x": "y"}},
        {"bundles": {DIGEST: ""}},
        {"next_update": CREATED},
    ],
)
def test_issuing_checks_its_fields(change: dict[str, object]) -> None:
    with pytest.raises(KeyFileError):
        issue_revocation(STUDIO_KEY, STUDIO, **({"number": 1, "issued": NOW} | change))  # type: ignore[arg-type]


# --- number 0 -------------------------------------------------------------------------------


def test_key_revokes_itself() -> None:
    revoked = self_revocation(SECOND_KEY, SECOND, reason="laptop stolen", issued=NOW)
    assert (revoked.number, revoked.keys) == (0, {SECOND.fingerprint: "laptop stolen"})
    assert not revoked.bundles
    assert not revoked.min_sequence
    assert revoked.signed.open([STUDIO, SECOND]).signer == SECOND


@pytest.mark.parametrize(
    "change",
    [
        {"keys": {OTHER.fingerprint: "x"}},
        {"keys": {STUDIO.fingerprint: "x", OTHER.fingerprint: "x"}},
        {"keys": {}},
        {"keys": {STUDIO.fingerprint: "x"}, "bundles": {DIGEST: "x"}},
        {"keys": {STUDIO.fingerprint: "x"}, "min_sequence": {STYLE: 2}},
        {"keys": {STUDIO.fingerprint: "x"}, "next_update": "2026-12-01T00:00:00Z"},
    ],
)
def test_number_0_says_nothing_else(change: dict[str, Json]) -> None:
    plain: dict[str, Json] = {"number": 0, "bundles": {}, "min_sequence": {}}
    record = json.loads(LIST.signed.envelope.payload)
    del record["next_update"]
    payload = dump_json({**record, **plain, **change})
    value = Envelope.signed(REVOCATION_PAYLOAD_TYPE, payload, STUDIO_KEY).to_json()
    signed = SignedRevocation.from_json(value, source="x")
    with pytest.raises(ProtocolError, match="number 0 may name its own key only"):
        signed.open([STUDIO])


# --- one list after the other ---------------------------------------------------------------


def extended(earlier: Revocation | None, **parts: object) -> Revocation:
    return extend_revocation(STUDIO_KEY, STUDIO, earlier, issued=NOW, **parts)  # type: ignore[arg-type]


def test_first_list_has_number_1() -> None:
    assert extended(None, bundles={DIGEST: "x"}, min_sequence={STYLE: 2}) == issue_revocation(
        STUDIO_KEY, STUDIO, number=1, issued=NOW, bundles={DIGEST: "x"}, min_sequence={STYLE: 2}
    )


def test_next_list_contains_the_one_before() -> None:
    newer = extended(LIST, keys={STUDIO.fingerprint: "y"}, bundles={OTHER_DIGEST: "z"}, min_sequence={STYLE: 6})
    assert newer.number == 4
    assert newer.keys == {OTHER.fingerprint: "stolen", STUDIO.fingerprint: "y"}
    assert newer.bundles == {DIGEST: "wrong pictures", OTHER_DIGEST: "z"}
    assert newer.min_sequence == {STYLE: 6}
    assert newer.next_update is None
    assert newer.contains(LIST)
    assert not LIST.contains(newer)


def test_floor_never_sinks() -> None:
    assert extended(LIST, min_sequence={STYLE: 2}).min_sequence == {STYLE: 4}


def test_reason_may_be_worded_anew() -> None:
    newer = extended(LIST, bundles={DIGEST: "licence withdrawn"})
    assert newer.bundles == {DIGEST: "licence withdrawn"}
    assert newer.contains(LIST)


@pytest.mark.parametrize("part", ["keys", "bundles", "min_sequence"])
def test_list_that_forgets_does_not_contain(part: str) -> None:
    parts: dict[str, object] = {name: getattr(LIST, name) for name in ("keys", "bundles", "min_sequence")}
    shorter = issue_revocation(STUDIO_KEY, STUDIO, number=4, issued=NOW, **(parts | {part: {}}))  # type: ignore[arg-type]
    assert not shorter.contains(LIST)


def test_lower_floor_does_not_contain() -> None:
    lower = issue_revocation(
        STUDIO_KEY, STUDIO, number=4, issued=NOW, keys=LIST.keys, bundles=LIST.bundles, min_sequence={STYLE: 3}
    )
    assert not lower.contains(LIST)


def test_list_of_another_provider_does_not_contain() -> None:
    empty = issue_revocation(OTHER_KEY, OTHER, number=1, issued=NOW)
    assert not empty.contains(issue_revocation(STUDIO_KEY, STUDIO, number=1, issued=NOW))


def test_newer_key_goes_on_with_the_list() -> None:
    newer = extend_revocation(SECOND_KEY, SECOND, LIST, issued=NOW, keys={STUDIO.fingerprint: "retired for good"})
    assert (newer.number, newer.signer) == (4, SECOND)
    assert newer.contains(LIST)


def test_only_a_list_of_the_provider_is_extended() -> None:
    with pytest.raises(KeyFileError, match="no list of this provider"):
        extended(self_revocation(STUDIO_KEY, STUDIO, reason="x", issued=NOW))
    with pytest.raises(KeyFileError, match="no list of this provider"):
        extended(issue_revocation(OTHER_KEY, OTHER, number=1, issued=NOW))
