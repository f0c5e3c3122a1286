"""P-36 to P-39, P-50: one door, an allow-list, and everything else is refused."""

import json
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from vaultkit import charge, make_vault, put_photos, settings

from modify_fl.artifacts import Adapted, LoadedStyle, TrainingSummary
from modify_fl.bundle import load_adapter, load_style, write_adapter
from modify_fl.errors import ConfigError, DataError, FederationPolicyError, PrivacyBudgetError, VaultBusyError
from modify_fl.perceptual import NetRecord
from modify_fl.privacy.ledger import Vault, read_vault
from modify_fl.privacy.places import MARKER, vaults_folder
from modify_fl.privacy.release import Released, ReleaseGate, Reply, failure, record_unprotected, write_unprotected
from modify_fl.privacy.statement import sentence, statement_of
from protocol.errors import Error, KeyFileError, PolicyError, StorageError, TensorError
from protocol.provider import ProviderKey, issue_provider_key, read_provider_key
from protocol.signing import PrivateKey, generate_key
from protocol.trust import TrustStore
from protocol.verify import VerifiedBundle, open_bundle

SEED, SECONDS, PLACE = 987654321, 54321.5, "cpu of the machine named kitchen"


@pytest.fixture(scope="session")
def style(studio: Path) -> LoadedStyle:
    provider = read_provider_key(studio / "keys" / "studio.mdfykey")
    with open_bundle(studio / "style.mdfy", trust=TrustStore.of(provider), now=datetime.now(UTC)) as bundle:
        return load_style(bundle, record=False)


def trained(style: LoadedStyle, *, steps: int = 20, **changes: object) -> Adapted:
    """What a run leaves: two tensors, and facts about it that are nobody's business."""
    state = style.model.encoder.state_dict()
    summary = TrainingSummary(
        images_seen=4711, steps=steps, seconds=SECONDS, seed=SEED, perceptual=NetRecord(name="dis-features"),
        identity=NetRecord(name="laplacian"), compute=PLACE,
    )  # fmt: skip
    adapted = Adapted(
        tensors={name: state[name] + 0.1 for name in ("heads.0.weight", "heads.0.bias")}, mode="offline",
        subset="heads", summary=summary,
    )  # fmt: skip
    return replace(adapted, **changes)  # type: ignore[arg-type]


@dataclass
class Desk:
    """A vault that is held, with 20 steps of ``run-1`` charged, and what signs."""

    vault: Vault
    gate: ReleaseGate
    style: LoadedStyle
    folder: Path
    key: PrivateKey
    provider: ProviderKey

    def write(self, adapted: Adapted, *, run: str = "run-1", name: str = "a.mdfa", overwrite: bool = False) -> Released:
        return self.gate.write_adapter(
            self.folder / name, adapted, run=run, key=self.key, provider=self.provider, overwrite=overwrite
        )

    def charge(self, steps: int, **changes: object) -> None:
        given = {"run": "run-1", "bundle": self.style.digest, "settings": settings(), "steps": steps}
        self.vault.charge(**(given | changes))  # type: ignore[arg-type]

    def open(self, name: str = "a.mdfa") -> VerifiedBundle:
        return open_bundle(self.folder / name, trust=TrustStore.of(self.provider), now=datetime.now(UTC))


@pytest.fixture
def desk(style: LoadedStyle, tmp_path: Path) -> Iterator[Desk]:
    make_vault(tmp_path / "photos")
    key, now = generate_key(), datetime.now(UTC).replace(microsecond=0)
    provider = issue_provider_key(
        key, name="this computer", roles=("adapter",), not_before=now, expires=now.replace(year=now.year + 1)
    )
    with Vault.open(tmp_path / "photos") as vault:
        desk = Desk(vault, ReleaseGate(vault, style), style, tmp_path, key, provider)
        desk.charge(20)
        yield desk


def refused(desk: Desk, kind: type[Error], match: str, attempt: Callable[[], object]) -> None:
    """The attempt is refused, and neither file nor ledger shows a trace of it."""
    before = desk.vault.ledger
    with pytest.raises(kind, match=match):
        attempt()
    assert desk.vault.ledger == before
    assert not list(desk.folder.glob("*.mdfa"))


def test_a_charged_adapter_leaves_with_its_statement_inside(desk: Desk) -> None:
    released = desk.write(trained(desk.style))
    with desk.open() as bundle:
        manifest = bundle.manifest
        encoder = load_adapter(bundle, desk.style)
    assert manifest.release == "shareable"
    assert manifest.privacy.dp == released.statement == statement_of(desk.vault.ledger)
    assert manifest.privacy.statement == sentence(released.statement)
    assert manifest.privacy.statement.startswith("Every encoder update that left this client, together, is (")
    assert (manifest.bundle.id, bundle.payload_digest) == (released.release, released.digest)
    assert torch.equal(
        encoder.state_dict()["heads.0.bias"], desk.style.model.encoder.state_dict()["heads.0.bias"] + 0.1
    )


def test_the_ledger_knows_of_a_release_before_the_file_exists(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from modify_fl.privacy import release

    def power_cut(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(release, "write_adapter", power_cut)
    with pytest.raises(KeyboardInterrupt):
        desk.write(trained(desk.style))
    assert len(read_vault(desk.folder / "photos").ledger.releases) == 1


def test_a_second_release_composes_with_the_first(desk: Desk) -> None:
    first = desk.write(trained(desk.style))
    desk.charge(30, run="run-2")
    second = desk.write(trained(desk.style, steps=30), run="run-2", name="b.mdfa")
    assert second.statement.releases == (first.release, second.release)
    assert [part.steps for part in second.statement.mechanisms or ()] == [50]
    assert (second.statement.epsilon or 0) > (first.statement.epsilon or 0)


def test_nothing_about_the_photos_or_the_run_is_in_the_file(desk: Desk) -> None:
    """P-37, P-61: no count, seed, time, place, path, photo name or vault id."""
    desk.write(trained(desk.style))
    with desk.open() as bundle:
        texts = b"".join(bundle.read(name) for name in bundle.members if not name.endswith(".safetensors"))
        training = bundle.manifest.provenance.training
    photos = [path.name for path in (desk.folder / "photos").iterdir()]
    private = [str(SEED), str(SECONDS), "4711", "kitchen", "run-1", desk.vault.id, str(desk.folder), *photos]
    assert [word for word in private if word.encode() in texts] == []
    assert (training.seed, training.steps, training.images_seen) == (0, 20, 20 * 256)


# What does not pass ------------------------------------------------------------------------


def test_tensors_without_a_charge_do_not_leave(desk: Desk) -> None:
    refused(desk, PrivacyBudgetError, "took 20 steps.*charged for 0", lambda: desk.write(trained(desk.style), run="x"))
    refused(desk, PrivacyBudgetError, "charged for 20", lambda: desk.write(trained(desk.style, steps=21)))
    refused(desk, PrivacyBudgetError, "took 0 steps", lambda: desk.write(trained(desk.style, steps=0)))


def test_steps_that_were_charged_for_another_style_do_not_count(desk: Desk) -> None:
    desk.charge(50, run="other", bundle="cd" * 32)
    refused(desk, PrivacyBudgetError, "charged for 0", lambda: desk.write(trained(desk.style), run="other"))


def test_test_time_weights_do_not_leave(desk: Desk) -> None:
    refused(desk, PolicyError, "local-only", lambda: desk.write(trained(desk.style, mode="test-time")))


def test_weights_made_with_repeatable_noise_do_not_leave(desk: Desk) -> None:
    desk.charge(20, run="test", deterministic=True)
    refused(desk, PrivacyBudgetError, "repeatable noise", lambda: desk.write(trained(desk.style), run="test"))


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        ({}, "nothing was trained"),
        ({"w_avg": torch.zeros(8, 16)}, "no trainable tensor"),
        ({"exp_avg": torch.zeros(1)}, "no trainable tensor"),
        ({"rng_state": torch.zeros(5056)}, "no trainable tensor"),
        ({"../heads.0.bias": torch.zeros(16)}, "no trainable tensor"),
        ({"heads.0.bias": torch.zeros(3)}, "another shape or type"),
        ({"heads.0.bias": torch.zeros(16, dtype=torch.float64)}, "another shape or type"),
        ({"heads.0.bias": torch.full((16,), torch.nan)}, "not finite"),
        ({"heads.0.bias": torch.zeros(16), "photos": torch.zeros(2, 3, 32, 32)}, "no trainable tensor"),
    ],
)
def test_only_trainable_tensors_of_the_style_leave(desk: Desk, tensors: dict[str, torch.Tensor], match: str) -> None:
    refused(desk, TensorError, match, lambda: desk.write(trained(desk.style, tensors=tensors)))


def test_an_existing_file_stays_and_nothing_is_recorded(desk: Desk) -> None:
    (desk.folder / "a.txt").write_text("mine")
    refused(desk, StorageError, "exists", lambda: desk.write(trained(desk.style), name="a.txt"))
    assert (desk.folder / "a.txt").read_text() == "mine"
    desk.write(trained(desk.style), name="a.txt", overwrite=True)


# Replies to a coordinator ---------------------------------------------------------------------


def test_a_reply_has_these_fields_and_no_other(desk: Desk) -> None:
    reply = desk.gate.reply(trained(desk.style), run="run-1", federated_round=3)
    assert {field.name for field in fields(reply)} == {
        "tensors", "bundle", "round", "settings", "statement", "num_examples",
    }  # fmt: skip
    assert (reply.num_examples, reply.round, reply.bundle) == (1, 3, desk.style.digest)
    assert set(reply.tensors) == {"encoder.heads.0.weight", "encoder.heads.0.bias"}
    assert set(reply.settings) == {"sampling_rate", "noise_multiplier", "steps", "unit", "max_grad_norm"}
    assert "4711" not in json.dumps(dict(reply.settings))
    assert reply.statement.applied
    assert len(desk.vault.ledger.releases) == 1


def test_the_number_of_examples_is_a_constant(desk: Desk) -> None:
    reply = desk.gate.reply(trained(desk.style), run="run-1", federated_round=1)
    for count in (0, 3, 640):
        with pytest.raises(PrivacyBudgetError, match="num_examples"):
            replace(reply, num_examples=count)
    assert isinstance(reply, Reply)


def test_a_reply_is_refused_where_a_file_would_be(desk: Desk) -> None:
    attempts = [trained(desk.style, steps=21), trained(desk.style, mode="test-time"), trained(desk.style, tensors={})]
    for adapted, kind in zip(attempts, (PrivacyBudgetError, PolicyError, TensorError), strict=True):
        refused(desk, kind, ".", lambda a=adapted: desk.gate.reply(a, run="run-1", federated_round=1))


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (PrivacyBudgetError("epsilon 7.9 is spent"), "budget"),
        (VaultBusyError("in use by run 3 of ann"), "busy"),
        (DataError("cannot read me.jpg"), "data_missing"),
        (FederationPolicyError("rounds: 3"), "policy"),
        (TensorError("heads.0.weight"), "bundle_mismatch"),
        (StorageError("/home/me/ledger"), "train_failed"),
        (ConfigError("/home/me/photos"), "train_failed"),
        (ValueError("tensor of 640 photos"), "train_failed"),
    ],
)
def test_an_error_is_told_as_one_word(error: Exception, word: str) -> None:
    assert failure(error) == word


# Without privacy (P-39) ---------------------------------------------------------------------------


@pytest.fixture
def local(desk: Desk) -> Path:
    """An adapter that must not leave, of a run without privacy."""
    path = desk.folder / "local" / "photos.mdfa"
    path.parent.mkdir()
    write_adapter(path, trained(desk.style), style=desk.style, key=desk.key, provider=desk.provider, overwrite=False)
    return path


def share(desk: Desk, path: Path, photos: Path | None, *, reason: str = "a present", name: str = "b.mdfa") -> Released:
    with open_bundle(path, trust=TrustStore.of(desk.provider), now=datetime.now(UTC)) as adapter:
        return write_unprotected(
            desk.folder / name, adapter, reason=reason, photos=photos, key=desk.key, provider=desk.provider,
            overwrite=False,
        )  # fmt: skip


def test_unprotected_weights_leave_with_a_reason_that_ends_the_claim(desk: Desk, local: Path) -> None:
    put_photos(desk.folder / "album", first=30)
    made = Vault.create(desk.folder / "album", order=3.7)[0]
    released = share(desk, local, desk.folder / "album")
    with desk.open("b.mdfa") as bundle:
        manifest = bundle.manifest
        load_adapter(bundle, desk.style)
    assert manifest.release == "shareable"
    assert (manifest.privacy.dp.guarantee, manifest.privacy.dp.reason) == ("none", "a present")
    assert manifest.privacy.statement.endswith("guarantee: none (a present)")
    assert manifest.provenance.training.seed == 0
    ledger = read_vault(desk.folder / "album").ledger
    assert (ledger.releases[0].release, ledger.releases[0].reason) == (released.release, "a present")
    assert ledger.opening.vault == made.vault
    assert sentence(statement_of(ledger)).startswith("guarantee: none")


def test_after_an_unprotected_release_nothing_is_claimed_any_more(desk: Desk) -> None:
    desk.vault.record_release(release="gone", reason="a present")
    refused(desk, PrivacyBudgetError, "nothing can be claimed", lambda: desk.write(trained(desk.style)))


def test_what_left_before_a_vault_was_made_ends_its_claims(desk: Desk, local: Path) -> None:
    photos = put_photos(desk.folder / "album", first=40)
    released = share(desk, local, photos)
    assert released.statement.guarantee == "none"
    copy = put_photos(desk.folder / "copy", 2, first=42)  # one of the three photos
    for folder in (photos, copy):
        warnings = Vault.create(folder, order=3.7)[1]
        assert warnings[0] == (
            f"{released.release}, made of these photos, left without privacy (a present): nothing can be claimed"
        )
        with Vault.open(folder) as vault:
            charge(vault, 100)
            said = sentence(statement_of(vault.ledger))
        assert said == f"guarantee: none ({released.release} left without differential privacy: a present)"
    assert Vault.create(put_photos(desk.folder / "other", first=50), order=3.7)[1] == ()


def test_photos_that_were_changed_since_are_known_by_their_place(tmp_path: Path) -> None:
    photos = put_photos(tmp_path / "photos")
    record_unprotected("a present", photos)
    for path in photos.iterdir():
        path.write_bytes(b"edited")
    assert Vault.create(photos, order=3.7)[0].ledger.releases[0].reason == "a present"


def test_what_left_of_photos_that_nobody_named_is_warned_of(tmp_path: Path) -> None:
    release = record_unprotected("a present", None)
    state, warnings = Vault.create(put_photos(tmp_path / "photos"), order=3.7)
    assert warnings[0].startswith(f"{release} left without privacy (a present), and nobody said of which photos")
    assert state.ledger.releases == ()


def test_an_interrupted_vault_is_made_anew_with_what_left_before(tmp_path: Path) -> None:
    photos = put_photos(tmp_path / "photos")
    release = record_unprotected("a present", photos)
    Vault.create(photos, order=3.7)
    (photos / MARKER).unlink()  # it comes last
    again = Vault.create(photos, order=3.7)[0]
    assert [entry.release for entry in again.ledger.releases] == [release]
    with Vault.open(photos) as vault:
        vault.record_release(release="later", reason="another present")
    (photos / MARKER).unlink()
    with pytest.raises(PrivacyBudgetError, match="marker"):
        Vault.create(photos, order=3.7)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"reason":"x","release":"y"}'])
def test_a_damaged_record_of_what_left_stops_with_a_sentence(tmp_path: Path, damage: bytes) -> None:
    release = record_unprotected("a present", None)
    record = vaults_folder() / "unprotected" / release / "release.json"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (record.parent, record)] == [0o700, 0o600]
    record.write_bytes(damage)
    with pytest.raises(PrivacyBudgetError, match="is not what this program writes"):
        Vault.create(put_photos(tmp_path / "photos"), order=3.7)
    record.chmod(0o644)
    with pytest.raises(KeyFileError, match="open to others"):
        Vault.create(tmp_path / "photos", order=3.7)


def test_who_has_vaults_must_say_which_photos(desk: Desk, local: Path) -> None:
    refused(desk, ConfigError, "which photos", lambda: share(desk, local, None))
    refused(desk, DataError, "there is no folder", lambda: share(desk, local, desk.folder / "nowhere"))
    (desk.folder / "empty").mkdir()
    refused(desk, DataError, "no picture", lambda: share(desk, local, desk.folder / "empty"))
    refused(desk, PrivacyBudgetError, "in use", lambda: share(desk, local, desk.folder / "photos"))


@pytest.mark.parametrize("reason", ["", "  ", "two\nlines", "see /home/me/why", "write to me@example.org"])
def test_a_reason_is_one_line_without_private_details(desk: Desk, local: Path, reason: str) -> None:
    refused(desk, Error, "private detail|needs a reason", lambda: share(desk, local, None, reason=reason))


def test_what_may_leave_needs_no_reason(desk: Desk) -> None:
    desk.write(trained(desk.style), name="a.txt")
    with pytest.raises(ConfigError, match="may leave as it is"):
        share(desk, desk.folder / "a.txt", None)
