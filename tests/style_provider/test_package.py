"""``style-provider package``, ``verify`` and ``inspect`` (U-30, U-34 to U-40, B-25, B-44)."""

import json
import shutil
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from programs import PACKAGE, QUICK, TINY, draw_photos, provider

from protocol.encryption import Identity, decrypt_stream, generate_identity, is_age
from protocol.manifest import Usage
from protocol.provider import ProviderKey, read_provider_key
from protocol.trust import TrustStore
from protocol.verify import inspect_bundle, verify_bundle


@pytest.fixture
def keys(studio: Path, tmp_path: Path) -> Path:
    shutil.copytree(studio / "keys", tmp_path / "keys")
    return tmp_path


def test_bundle_says_what_it_is(studio: Path) -> None:
    manifest = inspect_bundle(studio / "style.mdfy").manifest
    assert manifest.provenance.training.steps == 4
    assert manifest.privacy.training_data.number_of_images == "0 to 9"  # 9 of 12 were trained on
    assert not manifest.privacy.dp.applied
    # Three of 12 images were held out (P-72: a quarter of so small a set), and their figures are in the manifest.
    assert {figure.samples for figure in manifest.evaluation} == {3}
    values = {figure.metric.split()[0]: figure.value for figure in manifest.evaluation}
    assert values["PSNR"] is not None
    assert values["LPIPS"] is None  # no weights here: absent, never 0 (M-43)


def test_run_is_recorded_beside_the_bundle(studio: Path) -> None:
    events = [json.loads(line) for line in (studio / "style.mdfy.run" / "metrics.jsonl").read_text().splitlines()]
    assert {"start", "warning", "done"} <= {event["kind"] for event in events}
    assert json.loads((studio / "style.mdfy.run" / "config.json").read_text())["settings"]["seed"] == 0


def test_defaults_work_as_typed(keys: Path) -> None:
    result = provider("package", "--dataset", "synthetic", "--limit", "8", "--budget", "2steps", "--holdout", "0",
                      *PACKAGE, *QUICK, cwd=keys)  # fmt: skip
    assert result.code == 0, result.err
    assert (keys / "synthetic.mdfy").is_file()
    assert "M-41" in result.err  # the replacement of LPIPS is said aloud
    again = provider("package", "--dataset", "synthetic", "--limit", "8", *PACKAGE, *QUICK, cwd=keys)
    assert again.code == 9


def test_a_folder_that_is_not_there_is_made(keys: Path) -> None:
    words = ("package", "--dataset", "synthetic", "--limit", "8", "--budget", "2steps", "--holdout", "0")
    result = provider(*words, "--out", "new/deep/s.mdfy", *PACKAGE, *QUICK, cwd=keys)
    assert result.code == 0, result.err
    assert {path.name for path in (keys / "new" / "deep").iterdir()} == {"s.mdfy", "s.mdfy.run"}
    refused = provider(*words, "--out", "new/deep/s.mdfy/t.mdfy", *PACKAGE, *QUICK, cwd=keys)
    assert (refused.code, "s.mdfy is no folder" in refused.err) == (2, True), refused.err


def test_same_command_goes_on_and_other_settings_stop(keys: Path) -> None:
    words = ("package", "--dataset", "synthetic", "--limit", "8", "--out", "s.mdfy", *PACKAGE, *QUICK, "--json")
    first = provider(*words, "--budget", "2steps", cwd=keys)
    assert first.code == 0, first.err
    repeated = provider(*words, "--budget", "2steps", "--overwrite", cwd=keys)
    assert repeated.code == 0
    assert "going on after step 2" in repeated.err
    other = provider(*words, "--budget", "3steps", "--overwrite", cwd=keys)
    assert other.code == 2
    assert other.json["error"]["why"] == "budget was 2steps, now 3steps"
    fresh = provider(*words, "--budget", "3steps", "--overwrite", "--fresh", cwd=keys)
    assert (fresh.code, fresh.json["result"]["steps"]) == (0, 3)


def test_dry_run_touches_nothing(keys: Path) -> None:
    before = sorted(keys.rglob("*"))
    for budget, steps in (("40steps", 40), ("40img", 10)):
        words = ("package", "--dataset", "synthetic", "--limit", "8", "--dry-run", "--json", "--budget", budget)
        result = provider(*words, *PACKAGE, *QUICK, cwd=keys)
        assert (result.code, result.json["result"]["steps"]) == (0, steps)
        assert result.json["result"]["images_seen"] == 4 * steps
    assert sorted(keys.rglob("*")) == before


def test_dry_run_measures_time_and_memory(keys: Path) -> None:
    # U-34, M-30: a time becomes steps by real ones; the memory is that of this process, which has torch in it.
    words = ("package", "--dataset", "synthetic", "--limit", "8", "--dry-run", "--budget", "10s", *PACKAGE, *QUICK)
    body = provider(*words, "--json", cwd=keys).json["result"]
    assert body["steps"] >= 2
    assert 0.5 < body["seconds"] < 12
    assert 100e6 < body["memory"] < 100e9
    assert body["device_memory"] is None
    shown = provider(*words, cwd=keys)
    assert "kimg, about 0." in shown.out
    assert "GB of memory" in shown.out
    assert body["audit_seconds"] is None
    assert "no audit follows (--audit no)" in shown.out
    none = provider(*words, "--require-perceptual", cwd=keys)
    assert none.code == 12


def test_dry_run_tells_of_the_audit_that_follows(keys: Path) -> None:
    words = ("package", "--dataset", "synthetic", "--limit", "8", "--dry-run", "--budget", "2steps", *TINY, *QUICK)
    assert provider(*words, "--json", cwd=keys).json["result"]["audit_seconds"] == 20  # the shortest that is made
    assert "then an audit of at most 5 min 0 s (--audit)" in provider(*words, "--audit", "5m", cwd=keys).out
    assert "then an audit in full (--audit)" in provider(*words, "--audit", "standard", cwd=keys).out


def test_tensorboard_is_asked_for_and_named_when_missing(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    words = ("package", *SMALL, "--tensorboard", "board")
    result = provider(*words, cwd=keys)
    assert result.code == 2
    assert "pip install 'modify-fl[tensorboard]'" in result.err
    assert not list(keys.glob("synthetic.mdfy*"))  # not even a folder for the run


def test_other_processes_of_a_run_are_silent(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # M-56: the first process alone speaks and writes; an error is said by the one that has it.
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    words = ("package", "--dataset", "synthetic", "--limit", "8", *PACKAGE, *QUICK, "--json")
    shown = provider(*words, "--show-config", cwd=keys)
    assert (shown.code, shown.out, shown.err) == (0, "", "")
    wrong = provider(*words, "--limit", "1", cwd=keys)
    assert (wrong.code, wrong.out) == (10, "")
    assert "two images or more" in wrong.err


def test_show_config_prints_the_settings_in_force(tmp_path: Path) -> None:
    result = provider("package", "--dataset", "synthetic", "--show-config", "--set", "w_dim=7", cwd=tmp_path)
    assert result.code == 0
    assert json.loads(result.out)["network"]["w_dim"] == 7


def test_missing_dataset_is_answered_in_three_lines(tmp_path: Path) -> None:
    result = provider("package", "--dataset", "metfaces", cwd=tmp_path)
    assert result.code == 10
    assert len(result.err.splitlines()) == 3
    assert "https://github.com/NVlabs/metfaces-dataset" in result.err
    assert "CC BY-NC 2.0" in result.err
    assert "data set demo" in result.err


def test_missing_key_is_answered_with_keygen(tmp_path: Path) -> None:
    result = provider("package", "--dataset", "synthetic", "--json", cwd=tmp_path)
    assert result.code == 2
    assert result.json["error"]["fix"][:2] == ["style-provider", "keygen"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--preset", "huge"), 2),
        (("--budget", "soon"), 2),
        (("--device", "quantum"), 2),
        (("--out", "keys/studio.pem/x.mdfy"), 2),
        (("--holdout", "1.5"), 2),
        (("--limit", "1"), 10),
        (("--require-perceptual",), 12),
        (("--key", "keys/other.pem"), 9),
    ],
)
def test_everything_is_checked_before_training(words: tuple[str, ...], code: int, keys: Path) -> None:
    result = provider("package", "--dataset", "synthetic", "--limit", "8", *PACKAGE, *words, cwd=keys)
    assert result.code == code, result.err
    assert not list(keys.glob("*.mdfy"))


def test_unreadable_images_are_named(keys: Path) -> None:
    draw_photos(keys / "set", 24)
    (keys / "set" / "broken.jpg").write_bytes(b"no picture")
    words = ("package", "--dataset", "set", "--style-data", "public", "--budget", "1steps", *PACKAGE, *QUICK)
    result = provider(*words, "--json", cwd=keys)
    assert result.code == 0, result.err
    assert result.json["result"]["skipped"] == ["broken.jpg"]  # 1 of 25 is below 5 %
    (keys / "set" / "broken2.jpg").write_bytes(b"no picture")
    stopped = provider(*words, "--out", "b.mdfy", cwd=keys)
    assert stopped.code == 10
    assert not (keys / "b.mdfy").exists()


def test_verify_lists_every_step(studio: Path) -> None:
    result = provider("verify", "style.mdfy", cwd=studio)
    assert result.code == 0
    shown = [line.split()[1] for line in result.out.splitlines()]
    assert list(dict.fromkeys(word for word in shown if word.isdecimal())) == [str(number) for number in range(1, 13)]


def test_verify_needs_to_know_which_key(studio: Path, tmp_path: Path) -> None:
    assert provider("verify", studio / "style.mdfy", cwd=tmp_path).code == 2
    result = provider("verify", studio / "style.mdfy", "--key", studio / "keys" / "studio.mdfykey", cwd=tmp_path)
    assert result.code == 0


def test_inspect_marks_every_line_unless_checked(studio: Path) -> None:
    unknown = provider("inspect", "style.mdfy", cwd=studio)
    assert unknown.code == 0
    assert all(line.startswith("unverified") for line in unknown.out.splitlines())
    known = provider("inspect", "style.mdfy", "--key", "keys/studio.mdfykey", cwd=studio)
    assert "unverified" not in known.out
    # B-44: it never says so much as "valid" of the file; "valid" is only the label of its dates.
    assert known.out.count("valid") == 1
    assert "without differential privacy" in known.out
    body = provider("inspect", "style.mdfy", "--json", cwd=studio).json
    assert body["result"]["verified"] is False
    assert body["result"]["manifest"]["format"] == "mdfy"


# Releases -----------------------------------------------------------------------

SECRET, RECIPIENT = generate_identity()
READER = Identity(recipient=RECIPIENT, secret=lambda: SECRET)
SMALL = ("--dataset", "synthetic", "--limit", "8", "--budget", "2steps", "--holdout", "0", *PACKAGE, *QUICK)


def own_key(folder: Path) -> ProviderKey:
    return read_provider_key(folder / "keys" / "studio.mdfykey")


def test_update_follows_what_the_old_one_said(studio: Path, keys: Path) -> None:
    old = inspect_bundle(studio / "style.mdfy")
    result = provider("package", *SMALL, "--update", studio / "style.mdfy", "--out", "next.mdfy", "--release", "1.1.0",
                      "--allow", "prints", "--prohibit", "passports", "--ask-consent", "--json", cwd=keys)  # fmt: skip
    assert result.code == 0, result.err
    new = inspect_bundle(keys / "next.mdfy").manifest
    assert (new.bundle.id, new.bundle.name) == (old.manifest.bundle.id, old.manifest.bundle.name)
    assert (new.bundle.sequence, new.bundle.version) == (2, "1.1.0")
    assert new.bundle.supersedes == old.payload_digest
    assert new.licence == old.manifest.licence
    assert new.usage == Usage(allowed=("prints",), prohibited=("passports",), requires_acknowledgement=True)
    assert result.json["result"]["sequence"] == 2
    # Its terms are those of the next one, unless that says something else.
    third = provider("package", *SMALL, "--update", "next.mdfy", "--out", "third.mdfy", "--allow", "posters", cwd=keys)
    assert third.code == 0, third.err
    last = inspect_bundle(keys / "third.mdfy").manifest
    assert (last.bundle.sequence, last.bundle.version) == (3, "1.1.0")
    assert last.usage == replace(new.usage, allowed=("posters",))


def test_finished_run_packs_to_the_same_bytes(studio: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # B-6: a date from outside makes the whole build reproducible.
    moment = own_key(keys).not_before + timedelta(days=3)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(int(moment.timestamp())))
    words = ("package", *SMALL, "--update", studio / "style.mdfy", "--out", "next.mdfy", "--overwrite")
    assert provider(*words, cwd=keys).code == 0
    first = (keys / "next.mdfy").read_bytes()
    again = provider(*words, cwd=keys)
    assert "going on after step 2" in again.err
    assert (keys / "next.mdfy").read_bytes() == first
    assert inspect_bundle(keys / "next.mdfy").manifest.bundle.created == moment


def test_addressed_bundle_opens_for_its_recipients_only(keys: Path) -> None:
    others = [generate_identity()[1] for _ in range(2)]
    (keys / "clients.txt").write_text(f"# members\n{others[0]}  # the first\n\n{others[1]}\n")
    result = provider("package", *SMALL, "--to", RECIPIENT, "--to-file", "clients.txt", "--json", cwd=keys)
    assert result.code == 0, result.err
    path = keys / "synthetic.mdfy"
    assert is_age(path.read_bytes())
    assert result.json["result"]["recipients"] == 3
    trust, now = TrustStore.of(own_key(keys)), datetime.now(UTC)
    found = verify_bundle(path, trust=trust, now=now, identity=READER)
    assert found.manifest.usage.audience == tuple(sorted([RECIPIENT, *others]))
    assert not list(keys.glob(".*"))  # nothing in the clear was left behind
    # Its provider cannot open it either, so a later release needs a decrypted copy.
    closed = provider("package", *SMALL, "--update", path, "--out", "next.mdfy", cwd=keys)
    assert closed.code == 8
    assert "age -d" in closed.err
    with path.open("rb") as source, (keys / "plain.mdfy").open("wb") as plain:
        decrypt_stream(source, plain, READER)
    later = provider("package", *SMALL, "--update", "plain.mdfy", "--out", "next.mdfy", cwd=keys)
    assert later.code == 0, later.err
    new = verify_bundle(keys / "next.mdfy", trust=trust, now=datetime.now(UTC), identity=READER)
    assert (new.manifest.bundle.sequence, new.manifest.usage.audience) == (2, found.manifest.usage.audience)


def test_update_of_a_bundle_by_an_older_key(studio: Path, keys: Path) -> None:
    rotated = provider("key", "rotate", "keys/studio.pem", "--out", "keys", "--no-passphrase", cwd=keys)
    assert rotated.code == 0, rotated.err
    result = provider("package", *SMALL, "--update", studio / "style.mdfy", cwd=keys)
    assert result.code == 0, result.err
    assert inspect_bundle(keys / "synthetic.mdfy").manifest.bundle.sequence == 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--to", "age1mistyped"), 8, "age1mistyped"),
        (("--to", "ssh-ed25519 AAAA"), 8, "not an X25519 recipient"),
        (("--to-file", "nowhere.txt"), 9, "nowhere.txt"),
        (("--to-file", "empty.txt"), 2, "names no recipient"),
        (("--to-file", "many.txt"), 2, "too many recipients"),
        (("--update", "nowhere.mdfy"), 9, "nowhere.mdfy"),
        (("--update", "empty.txt"), 3, "not a bundle"),
        (("--update", "broken.mdfy"), 4, "changed"),
        (("--update", "foreign.mdfy"), 2, "was not signed by this provider"),
        (("--allow", "write to me@example.org"), 6, "e-mail address"),
        (("--name", "x" * 201), 2, "name is longer than 200 characters"),
        (("--release", "1" * 201), 2, "release is longer than 200 characters"),
        (("--prohibit", "y" * 201), 2, "longer than 200 characters"),
        (("--description", "z" * 4097), 2, "description is longer than 4096 characters"),
        (("--licence", "one\u2028two"), 2, "licence"),
    ],
)
def test_releases_are_checked_before_training(
    words: tuple[str, str], code: int, said: str, keys: Path, studio: Path
) -> None:
    (keys / "empty.txt").write_text("# nobody yet\n")
    (keys / "many.txt").write_text("\n".join(generate_identity()[1] for _ in range(32)))
    data = (studio / "style.mdfy").read_bytes()
    (keys / "broken.mdfy").write_bytes(data.replace(b"broad", b"Broad", 1).replace(b"## Privacy", b"## privacy", 1))
    if words[1] == "foreign.mdfy":
        shutil.copy(studio / "style.mdfy", keys / "foreign.mdfy")
        shutil.rmtree(keys / "keys")
        made = provider("keygen", "--name", "Other", "--out", "keys", "--no-passphrase", cwd=keys)
        assert made.code == 0, made.err
    result = provider("package", *SMALL, *words, cwd=keys)
    assert result.code == code, result.err
    assert said in result.err
    assert len(result.err.splitlines()) <= 4
    assert not list(keys.glob("*.run"))


@pytest.mark.parametrize(
    ("moment", "code", "said"), [("soon", 2, "not a time"), ("4102444800", 6, "expired"), ("0", 6, "not valid yet")]
)
def test_date_is_checked_before_training(
    moment: str, code: int, said: str, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", moment)
    result = provider("package", *SMALL, cwd=keys)
    assert result.code == code, result.err
    assert said in result.err
    assert not list(keys.glob("*.run"))
