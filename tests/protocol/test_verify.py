"""The door from bytes to a VerifiedBundle: what it gives, and what it asks for (B-25)."""

import contextlib
import errno
import gc
import importlib
import inspect
import io
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import pytest
from bundlekit import (
    CLIENT,
    CLIENT_KEY,
    ENCODER,
    GENERATOR,
    MEMBERS,
    NOW,
    OTHER,
    STUDIO,
    TABLE,
    adapter_manifest,
    forge,
    open_trusted,
    pack,
    style_manifest,
    weights,
    write_style,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import policy
from protocol.container import SIGNATURE
from protocol.encryption import Identity, encrypt_stream, generate_identity
from protocol.errors import (
    EnvironmentMissingError,
    KeyFileError,
    PolicyError,
    ProtocolError,
    StorageError,
    UntrustedKeyError,
    VerificationError,
)
from protocol.identity import load_identity, save_identity
from protocol.manifest import Usage
from protocol.publish import write_bundle
from protocol.rules import RULES
from protocol.trust import TrustStore
from protocol.verify import Verification, VerifiedBundle, check_base, inspect_bundle, open_bundle, verify_bundle


def refusal(path: Path, *, trust: TrustStore | None = None, now: datetime = NOW) -> ProtocolError:
    """Return the one error of both doors."""
    errors = []
    for door in (verify_bundle, open_bundle):
        with pytest.raises(ProtocolError) as caught:
            door(path, trust=trust or TrustStore.of(STUDIO), now=now)
        errors.append(caught.value)
    assert (errors[0].code, errors[0].step, errors[0].member) == (errors[1].code, errors[1].step, errors[1].member)
    return errors[0]


# --- what a verified bundle gives -----------------------------------------------------------


def test_verified_bundle(style_path: Path) -> None:
    with open_trusted(style_path) as bundle:
        assert bundle.kind == "style-bundle"
        assert bundle.signer.label == "Studio"
        assert set(bundle.members) == {*MEMBERS, "manifest.json", "model-card.md"}
        assert bundle.read(ENCODER) == MEMBERS[ENCODER]
        assert [(step.number, step.name) for step in bundle.steps] == [(rule.number, rule.name) for rule in RULES]
        assert bundle.warnings == ()
        with pytest.raises(VerificationError, match="missing"):
            bundle.read(SIGNATURE)
    with pytest.raises(ValueError, match="closed"):
        bundle.read(ENCODER)


def test_both_doors_find_the_same(style_path: Path) -> None:
    seen = verify_bundle(style_path, trust=TrustStore.of(STUDIO), now=NOW)
    with open_trusted(style_path) as bundle:
        assert vars(bundle.facts()) == vars(seen)
    assert type(bundle.facts()) is Verification
    assert bundle.manifest.bundle.name == "paintings"  # the facts stay
    assert not hasattr(seen, "read")


@pytest.mark.parametrize("door", [open_bundle, verify_bundle])
def test_no_defaults_for_trust_and_time(door: Callable[..., object]) -> None:
    parameters = inspect.signature(door).parameters
    for name in ("trust", "now"):
        assert parameters[name].default is inspect.Parameter.empty
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY


def test_time_needs_a_zone(style_path: Path) -> None:
    with pytest.raises(ValueError, match="time zone"):
        open_trusted(style_path, now=datetime(2026, 6, 1))  # noqa: DTZ001 - the point of the test


def test_refusal_closes_the_file(style_path: Path) -> None:
    # An open file whose owner is gone warns when it is collected, and a warning is an error here.
    refusal(style_path, trust=TrustStore.of(OTHER))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


def test_suffix_is_only_a_label(style_path: Path) -> None:
    # B-1: the signed kind decides.
    renamed = style_path.rename(style_path.with_suffix(".mdfa"))
    with open_trusted(renamed) as bundle:
        assert bundle.kind == "style-bundle"


# --- property: nothing can be changed -------------------------------------------------------


@settings(max_examples=300)
@given(st.data())
def test_any_flipped_bit_is_refused(
    style_bytes: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, len(style_bytes) * 8 - 1))
    broken = bytearray(style_bytes)
    broken[position // 8] ^= 1 << position % 8
    path = tmp_path_factory.getbasetemp() / "flipped.mdfy"
    path.write_bytes(broken)
    refusal(path)


@settings(max_examples=150)
@given(st.data())
def test_any_truncation_is_refused(
    style_bytes: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.mdfy"
    path.write_bytes(style_bytes[: data.draw(st.integers(0, len(style_bytes) - 1))])
    refusal(path)


def test_bits_all_over_the_file(style_bytes: bytes, tmp_path: Path) -> None:
    # "A flipped bit anywhere in the bundle"; the bits of the headers are all tried in test_container.
    path = tmp_path / "x.mdfy"
    trust = TrustStore.of(STUDIO)
    for position in range(0, len(style_bytes), 7):
        broken = bytearray(style_bytes)
        broken[position] ^= 1 << position % 8
        path.write_bytes(broken)
        refusal(path, trust=trust)


# --- contents ------------------------------------------------------------------------------


def test_file_changed_after_it_was_opened(style_path: Path) -> None:
    # What is handed out was hashed; the file is not read again.
    with open_trusted(style_path) as bundle:
        style_path.write_bytes(b"")
        assert bundle.read(ENCODER) == MEMBERS[ENCODER]


@pytest.mark.parametrize("keep", [False, True])
def test_file_cut_while_it_is_hashed(style_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool) -> None:
    real = policy.check_acknowledged

    def cut(*arguments: object) -> str:
        with style_path.open("r+b") as stream:
            stream.truncate(0)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(policy, "check_acknowledged", cut)
    with pytest.raises(ProtocolError) as caught:
        (open_bundle if keep else verify_bundle)(style_path, trust=TrustStore.of(STUDIO), now=NOW)
    # The stream's own buffer may hold the bytes of a small file from before.
    assert (caught.value.code, caught.value.step) in {("E_TRUNCATED", 11), ("E_DIGEST", 11)}


def test_members_longer_than_the_buffer(tmp_path: Path) -> None:
    members = {ENCODER: weights({"head.weight": [600_000], "trunk.weight": [4]}), GENERATOR: MEMBERS[GENERATOR]}
    path = tmp_path / "style.mdfy"
    write_style(path, members=members)
    with open_trusted(path) as bundle:
        assert bundle.read(ENCODER) == members[ENCODER]
    broken = bytearray(path.read_bytes())
    broken[broken.index(members[ENCODER]) + len(members[ENCODER]) - 1] ^= 1
    path.write_bytes(broken)
    error = refusal(path)
    assert (error.code, error.step, error.member) == ("E_DIGEST", 11, ENCODER)


# --- encrypted ------------------------------------------------------------------------------


SECRET, RECIPIENT = generate_identity()
OWN = Identity(recipient=RECIPIENT, secret=lambda: SECRET)


@pytest.fixture
def sealed(style_bytes: bytes, tmp_path: Path) -> Path:
    return seal(style_bytes, tmp_path / "sealed.mdfy")


def seal(data: bytes, path: Path, recipient: str = RECIPIENT) -> Path:
    with path.open("wb") as stream:
        encrypt_stream(io.BytesIO(data), stream, [recipient])
    return path


def test_encrypted_bundle_is_the_same_bundle(sealed: Path, style_path: Path) -> None:
    # B-27: the signature covers the plain text, so the identity survives encryption.
    with open_bundle(sealed, trust=TrustStore.of(STUDIO), now=NOW, identity=OWN) as bundle:
        assert bundle.read(ENCODER) == MEMBERS[ENCODER]
    assert bundle.payload_digest == open_trusted(style_path).payload_digest
    seen = inspect_bundle(sealed, identity=OWN)
    assert (seen.encrypted, seen.payload_digest) == (True, bundle.payload_digest)
    assert not inspect_bundle(style_path).encrypted


def test_plain_text_is_nowhere_to_be_found(sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # B-25 step 3: it has no name while it is there, and is gone afterwards.
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    during = []
    real = policy.check_acknowledged

    def look(*arguments: object) -> str:
        during.extend(folder.iterdir())
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(policy, "check_acknowledged", look)
    verify_bundle(sealed, trust=TrustStore.of(STUDIO), now=NOW, identity=OWN)
    assert [*during, *folder.iterdir()] == []


def test_secret_is_asked_for_encrypted_files_only(style_path: Path) -> None:
    def never() -> NoReturn:
        pytest.fail("a passphrase would be asked for")

    silent = Identity(recipient=RECIPIENT, secret=never)
    verify_bundle(style_path, trust=TrustStore.of(STUDIO), now=NOW, identity=silent)
    inspect_bundle(style_path, identity=silent)


def test_reader_without_an_identity(sealed: Path) -> None:
    error = refusal(sealed)
    assert (error.code, error.step, error.exit_code) == ("E_NOT_RECIPIENT", 3, 8)
    assert "content-client trust identity" in error.fix
    with pytest.raises(KeyFileError):
        inspect_bundle(sealed)


@pytest.mark.parametrize("inner", [b"hello", b""])
def test_encrypted_junk(inner: bytes, tmp_path: Path) -> None:
    path = seal(inner, tmp_path / "junk.mdfy")
    with pytest.raises(ProtocolError) as caught:
        verify_bundle(path, trust=TrustStore.of(STUDIO), now=NOW, identity=OWN)
    assert (caught.value.code, caught.value.step) == ("E_FORMAT", 3)


def test_encrypted_twice(sealed: Path, tmp_path: Path) -> None:
    path = seal(sealed.read_bytes(), tmp_path / "twice.mdfy")
    with pytest.raises(ProtocolError) as caught:
        verify_bundle(path, trust=TrustStore.of(STUDIO), now=NOW, identity=OWN)
    assert (caught.value.code, caught.value.step) == ("E_FORMAT", 3)


def test_flipped_bits_of_an_encrypted_bundle(sealed: Path) -> None:
    data = sealed.read_bytes()
    for position in range(0, len(data), 101):
        broken = bytearray(data)
        broken[position] ^= 1 << position % 8
        sealed.write_bytes(broken)
        with pytest.raises(ProtocolError) as caught:
            verify_bundle(sealed, trust=TrustStore.of(STUDIO), now=NOW, identity=OWN)
        assert caught.value.step in {2, 3}


def test_missing_age_package_is_missed_by_encrypted_bundles_only(
    sealed: Path, style_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # B-29
    key = save_identity(sealed.parent / "me.agekey", SECRET, None)

    def missing(name: str) -> NoReturn:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    identity = load_identity(key, str)
    verify_bundle(style_path, trust=TrustStore.of(STUDIO), now=NOW, identity=identity)
    with pytest.raises(EnvironmentMissingError) as caught:
        verify_bundle(sealed, trust=TrustStore.of(STUDIO), now=NOW, identity=identity)
    assert (caught.value.code, caught.value.step, caught.value.exit_code) == ("E_NO_AGE", 3, 12)


def test_full_disk_while_decrypting(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _data: object) -> NoReturn:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    with pytest.raises(StorageError) as caught:
        verify_bundle(sealed, trust=TrustStore.of(STUDIO), now=NOW, identity=OWN)
    assert (caught.value.code, caught.value.step) == ("E_IO", 3)


# --- audience and terms ---------------------------------------------------------------------


def addressed(path: Path, *audience: str) -> Path:
    write_style(path, manifest=replace(style_manifest(), usage=Usage(audience=audience)))
    return path


def test_audience_closes_forwarding(tmp_path: Path) -> None:
    # B-27: decrypted by a recipient and given on, it is of no use to others.
    path = addressed(tmp_path / "style.mdfy", RECIPIENT, generate_identity()[1])
    seen = verify_bundle(path, trust=TrustStore.of(STUDIO), now=NOW, identity=OWN)
    assert "you, one of 2" in [step.result for step in seen.steps]
    other = Identity(recipient=generate_identity()[1], secret=str)
    for identity, advice in ((other, "send your age1"), (None, "content-client trust identity")):
        with pytest.raises(PolicyError) as caught:
            verify_bundle(path, trust=TrustStore.of(STUDIO), now=NOW, identity=identity)
        assert (caught.value.code, caught.value.step, caught.value.exit_code) == ("E_AUDIENCE", 10, 6)
        assert advice in caught.value.fix


def test_terms_are_agreed_to_for_one_bundle(tmp_path: Path) -> None:
    usage = Usage(allowed=("art",), requires_acknowledgement=True)
    first, second = tmp_path / "first.mdfy", tmp_path / "second one.mdfy"
    manifest = replace(style_manifest(), usage=usage)
    digest = write_style(first, manifest=manifest)
    write_style(second, manifest=replace(manifest, bundle=replace(manifest.bundle, sequence=2)))
    trust = TrustStore.of(STUDIO)
    error = refusal(first, trust=trust)
    assert (error.code, error.step, error.exit_code) == ("E_USAGE", 10, 6)
    trust.acknowledge(digest)
    seen = verify_bundle(first, trust=trust, now=NOW)
    assert "agreed to" in [step.result for step in seen.steps]
    assert f"content-client verify '{second}' --accept-terms" in refusal(second, trust=trust).fix


# --- step 14 --------------------------------------------------------------------------------


def test_use_is_recorded_and_verification_is_not(tmp_path: Path) -> None:
    manifest = style_manifest()
    older, newer = tmp_path / "older.mdfy", tmp_path / "newer.mdfy"
    write_style(older, manifest=manifest)
    write_style(newer, manifest=replace(manifest, bundle=replace(manifest.bundle, sequence=2)))
    trust = TrustStore.of(STUDIO)
    verify_bundle(newer, trust=trust, now=NOW)
    early = open_bundle(older, trust=trust, now=NOW)
    open_bundle(newer, trust=trust, now=NOW).record_use()
    assert refusal(older, trust=trust).code == "E_ROLLBACK"
    with pytest.raises(PolicyError) as caught:  # verified before, used after the newer one
        early.record_use()
    assert (caught.value.code, caught.value.step) == ("E_ROLLBACK", 14)


def test_adapter_that_stays_here_is_not_recorded(tmp_path: Path, base: VerifiedBundle) -> None:
    trust = TrustStore.of(CLIENT)
    path = tmp_path / "a.mdfa"
    write_adapter(path, base, {ENCODER: weights(HEAD)})
    open_bundle(path, trust=trust, now=NOW).record_use()
    assert [trust.last_seen(provider) for provider in trust.providers()] == [()]


def test_warnings_of_the_store_come_along(tmp_path: Path, style_path: Path) -> None:
    trust = TrustStore(tmp_path / "trust")
    trust.add(STUDIO)
    (tmp_path / "trust" / "state.json").unlink(missing_ok=True)
    seen = verify_bundle(style_path, trust=trust, now=NOW)
    assert seen.warnings == trust.warnings(NOW)
    assert "W_STATE_RESET" in seen.warnings[0]


# --- adapters -------------------------------------------------------------------------------


@pytest.fixture
def base(style_path: Path) -> VerifiedBundle:
    return open_trusted(style_path)


def write_adapter(
    path: Path, base: VerifiedBundle, members: dict[str, bytes], **base_changes: object
) -> VerifiedBundle:
    manifest = adapter_manifest(base)
    assert manifest.base is not None
    manifest = replace(
        manifest,
        base=replace(manifest.base, **base_changes),
        model=replace(manifest.model, trainable=()),
    )
    write_bundle(
        path, manifest=manifest, members=members, abs_max=dict.fromkeys(members, 1.0), key=CLIENT_KEY, provider=CLIENT
    )
    return open_trusted(path, CLIENT)


HEAD = {"head.weight": TABLE["head.weight"]}


def test_adapter_on_its_base(tmp_path: Path, base: VerifiedBundle) -> None:
    with base, write_adapter(tmp_path / "a.mdfa", base, {ENCODER: weights(HEAD)}) as adapter:
        assert adapter.kind == "encoder-adapter"
        check_base(adapter, base)


@pytest.mark.parametrize(
    "change", [{"payload_sha256": "0" * 64}, {"sequence": 2}, {"bundle_id": "0" * 8 + "-0000" * 3 + "-" + "0" * 12}]
)
def test_adapter_for_another_base(tmp_path: Path, base: VerifiedBundle, change: dict[str, object]) -> None:
    adapter = write_adapter(tmp_path / "a.mdfa", base, {ENCODER: weights(HEAD)}, **change)
    with base, adapter, pytest.raises(PolicyError) as caught:
        check_base(adapter, base)
    assert caught.value.code == "E_BASE"


@pytest.mark.parametrize(
    "members",
    [
        {ENCODER: weights({"trunk.weight": [4]})},  # frozen
        {ENCODER: weights({"head.weight": [3, 2]})},  # other shape
        {ENCODER: weights({"new.weight": [1]})},
        {GENERATOR: weights({"const": [1, 8]})},  # frozen file
        {"weights/discriminator.safetensors": weights(HEAD)},  # right name, other file
    ],
)
def test_adapter_that_touches_more_than_it_may(tmp_path: Path, base: VerifiedBundle, members: dict[str, bytes]) -> None:
    adapter = write_adapter(tmp_path / "a.mdfa", base, members)
    with base, adapter, pytest.raises(PolicyError) as caught:
        check_base(adapter, base)
    assert caught.value.code == "E_BASE"


@pytest.mark.parametrize(
    ("stored", "changed", "right"), [("F16", "F32", True), ("F16", "F16", True), ("F32", "F16", False)]
)
def test_adapter_may_be_more_precise_than_its_base(tmp_path: Path, stored: str, changed: str, right: bool) -> None:
    write_style(tmp_path / "s.mdfy", members={**MEMBERS, ENCODER: weights(dtype=stored)})
    with open_trusted(tmp_path / "s.mdfy") as base:
        adapter = write_adapter(tmp_path / "a.mdfa", base, {ENCODER: weights(HEAD, dtype=changed)})
        with adapter, contextlib.nullcontext() if right else pytest.raises(PolicyError, match="not trainable there"):
            check_base(adapter, base)


def test_base_without_trainable_tensors(tmp_path: Path) -> None:
    manifest = style_manifest()
    write_style(tmp_path / "s.mdfy", manifest=replace(manifest, model=replace(manifest.model, trainable=())))
    with open_trusted(tmp_path / "s.mdfy") as frozen:
        adapter = write_adapter(tmp_path / "a.mdfa", frozen, {ENCODER: weights(HEAD)})
        with adapter, pytest.raises(PolicyError, match="frozen"):
            check_base(adapter, frozen)


def test_kinds_are_not_interchangeable(tmp_path: Path, base: VerifiedBundle) -> None:
    adapter = write_adapter(tmp_path / "a.mdfa", base, {ENCODER: weights(HEAD)})
    with base, adapter:
        for pair in ((base, base), (adapter, adapter), (base, adapter)):
            with pytest.raises(PolicyError):
                check_base(*pair)


def test_adapter_key_cannot_sign_styles(tmp_path: Path) -> None:
    # B-37: the client's own key is for adapters only, whoever gets hold of it.
    with pytest.raises(UntrustedKeyError) as caught:
        write_style(tmp_path / "s.mdfy", manifest=style_manifest(CLIENT), key=CLIENT_KEY, provider=CLIENT)
    assert caught.value.code == "E_KEY_ROLE"


# --- inspecting -----------------------------------------------------------------------------


def test_inspection_trusts_nobody(style_path: Path) -> None:
    seen = inspect_bundle(style_path)
    assert seen.manifest.bundle.name == "paintings"
    assert seen.claimed_fingerprint == STUDIO.fingerprint
    with open_trusted(style_path) as bundle:
        assert seen.payload_digest == bundle.payload_digest
    assert seen.members[0].name == "manifest.json"
    assert not hasattr(seen, "read")  # nothing to load weights with


def test_inspection_of_an_unsigned_file(style_path: Path) -> None:
    forge(style_path, lambda members: members.pop(SIGNATURE) and None, sign=False)
    assert inspect_bundle(style_path).payload_digest is None


def test_inspection_needs_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "x.mdfy"
    path.write_bytes(pack({"a.txt": b""}))
    with pytest.raises(VerificationError, match="missing"):
        inspect_bundle(path)
