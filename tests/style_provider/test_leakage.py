"""``style-provider audit``, and what ``package`` does with it (P-72 to P-85)."""

import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from programs import PACKAGE, QUICK, TINY, Result, client, draw_photos, provider

from modify_fl.config import Budget
from modify_fl.console import Console, Verbosity
from modify_fl.data import ImageSet, load_images
from modify_fl.errors import InterruptedRunError
from protocol.manifest import Manifest
from protocol.provider import read_provider_key
from protocol.trust import TrustStore
from protocol.verify import inspect_bundle, open_bundle
from style_provider.holdout import HoldoutNote, weights_digest
from style_provider.leakage import attack, package, planning, task
from style_provider.leakage.findings import HEADLINES
from style_provider.leakage.material import Material
from style_provider.leakage.planning import Plan, planned
from style_provider.leakage.task import Request, load_material, run_audit

DRAWN = ("--dataset", "synthetic", "--limit", "60", "--budget", "10steps", *QUICK)


@pytest.fixture(scope="module")
def home(studio: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A bundle that was audited while it was packed, briefly."""
    folder = tmp_path_factory.mktemp("audited")
    shutil.copytree(studio / "keys", folder / "keys")
    done = provider("package", *DRAWN, *TINY, "--audit", "2s", "--out", "s.mdfy", "--json", cwd=folder)
    assert done.code == 0, done.err
    return folder, done


def manifest_of(path: Path) -> Manifest:
    return inspect_bundle(path).manifest


def test_card_has_the_figures_and_the_statement_says_them(home: tuple[Path, Result]) -> None:
    """P-83, P-84: the statement comes from the fields, the fields from the audit."""
    card = manifest_of(home[0] / "s.mdfy").privacy
    audit = card.memorisation_audit
    assert audit is not None
    assert audit.status == "warned"  # public images; so few of them are too weak to tell
    assert audit.critic_shipped
    assert [figure.name for figure in audit.figures or ()] == list(HEADLINES)
    told = {f["name"]: f for f in home[1].json["result"]["leakage"]["findings"]}
    for figure in audit.figures or ():
        assert figure.value == told[figure.name]["value"]
        assert f"{figure.name} {figure.shown}" in card.statement
    assert "attacks that were tried, not a bound" in card.statement
    assert "The critic is in the bundle." in card.statement
    assert audit.held_out == "10 to 99"


def test_everybody_sees_the_same(home: tuple[Path, Result]) -> None:
    """``inspect`` of both programs and the model card show statement and figures (P-84)."""
    path, key = home[0] / "s.mdfy", home[0] / "keys" / "studio.mdfykey"
    statement = manifest_of(path).privacy.statement
    own, others = provider("inspect", path, "--key", key, cwd=home[0]), client("inspect", path, cwd=home[0])
    assert own.code == others.code == 0
    assert statement in own.out
    assert statement in others.out
    assert own.out.count("\nleakage ") == len(HEADLINES)
    card = provider("inspect", path, "--key", key, "--format", "hf-card", cwd=home[0]).out
    for name in HEADLINES:
        assert f"- **{name}**: " in card


def test_report_in_the_bundle_holds_figures_and_nothing_of_an_image(home: tuple[Path, Result]) -> None:
    """P-85; lists are short: no score or distance of a single image."""
    trust = TrustStore.of(read_provider_key(home[0] / "keys" / "studio.mdfykey"))
    assert "45 against 15 images" in (home[0] / "s.mdfy.run" / "audit" / "report" / "report.html").read_text()
    with open_bundle(home[0] / "s.mdfy", trust=trust, now=datetime.now(UTC)) as bundle:
        report, text = json.loads(bundle.read("reports/leakage.json")), bundle.read("reports/leakage.md").decode()
    assert {f["name"] for f in report["findings"]} >= set(HEADLINES)
    assert report["held_out_band"] == "10 to 99"

    def lists(value: object) -> list[int]:
        if isinstance(value, dict):
            return [n for item in value.values() for n in lists(item)]
        return [len(value), *(n for item in value for n in lists(item))] if isinstance(value, list) else []

    assert max(lists(report)) <= 30
    assert "Status: **warned**" in text
    assert "painting-" not in text + json.dumps(report)
    assert "against 15 images" not in text + json.dumps(report)


def test_provider_keeps_pairs_of_pictures_to_itself(home: tuple[Path, Result]) -> None:
    folder = home[0] / "s.mdfy.run" / "audit" / "report"
    assert folder.stat().st_mode & 0o077 == 0
    page = (folder / "report.html").read_text()
    assert "stays with you" in page
    assert (folder / "closest-pixels.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "report.html").stat().st_mode & 0o077 == 0
    assert "script" not in page


def test_hold_out_is_noted_with_the_run(home: tuple[Path, Result]) -> None:
    note = json.loads((home[0] / "s.mdfy.run" / "holdout.json").read_text())
    assert (len(note["trained"]), len(note["held"])) == (45, 15)  # P-72: a quarter of 60
    assert not (home[0] / "s.mdfy.run" / "candidate.mdfy").exists()
    assert note["held"][0].encode() not in (home[0] / "s.mdfy").read_bytes()


@pytest.fixture(scope="module")
def twins(studio: Path) -> Material:
    """As if the bundle had been trained on 18 of 30 works, of each an image and its mirror image."""
    drawn = load_images("synthetic", resolution=32, look="painting", limit=30)
    images = ImageSet.of(torch.cat([drawn.images, drawn.images.flip(-1)]), [f"{i}.png" for i in range(60)])
    trained, held = ([i for i in range(60) if (i % 30 < 18) == side] for side in (True, False))
    path, trust = studio / "style.mdfy", TrustStore.of(read_provider_key(studio / "keys" / "studio.mdfykey"))
    note = replace(HoldoutNote.of(images, trained, held), weights=weights_digest(manifest_of(path)))
    photos = load_images("synthetic", resolution=32, look="photo", limit=2)
    return load_material(path, images, photos, note=note, trust=trust, seed=0)


def test_images_of_one_work_are_one_witness(twins: Material) -> None:
    """P-78: both sides are compared by works; copies are sought among all images."""
    material = twins
    assert (len(material.trained), len(material.members), len(material.held)) == (36, 18, 12)
    assert [len(side) for side in material.sample] == [18, 12]
    assert not set(material.members.names) & set(material.held.names)


@pytest.mark.parametrize(
    ("seconds", "strength"), [(142.05, (1000, 0)), (211.1, (1600, 14)), (1000, (2001, 72)), (27, (30, 0))]
)
def test_audit_of_a_time_keeps_it_about(
    twins: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, strength: tuple[int, int]
) -> None:
    """What is done with every image takes its time first; what is drawn and completed gets the rest."""
    monkeypatch.setattr(planning, "_picture_seconds", lambda _: 0.1)
    monkeypatch.setattr(planning, "_codes_seconds", lambda _: 1.0)
    plan = planned(twins, Budget(kind="seconds", amount=seconds), tmp_path)
    # 36 + 12 images and their mirror images, 4 x 36 changed ones, a pass over 18 + 12: 270 of 0.1 s.
    assert plan.least == pytest.approx(27)
    # 2001 drawn pictures and 30 x 10 for codes: 230.1 s at full strength, of which half or four fifths are left.
    assert (plan.material.strength.generated, plan.material.strength.compared) == strength
    if 27 < seconds < 1000:
        assert plan.cost * 0.1 == pytest.approx(seconds, rel=0.12)


def test_audit_that_cannot_keep_its_time_says_so(
    twins: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise InterruptedRunError("stopped")

    monkeypatch.setattr(task, "audit", stop)
    monkeypatch.setattr(planning, "_picture_seconds", lambda _: 0.1)
    with pytest.raises(InterruptedRunError):
        run_audit(
            twins, Request(seed=0, budget=Budget(kind="seconds", amount=20)), folder=tmp_path, style_data="public",
            console=Console("style-provider", "audit", Verbosity()),
        )  # fmt: skip
    assert "measuring every image takes about 27 s alone; the audit takes longer than 20 s" in capsys.readouterr().err


def audit(home: Path, *more: str | Path) -> Result:
    words = ("--dataset", "synthetic", "--limit", "60", "--key", "keys/studio.mdfykey", "--threads", "1", "--json")
    return provider("audit", "s.mdfy", *words, *more, cwd=home)


def test_same_audit_gives_the_same_figures_and_goes_on(
    home: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished steps are taken over; a fresh folder comes to the same figures."""
    shutil.copytree(home[0], tmp_path, dirs_exist_ok=True)
    first = audit(tmp_path, "--budget", "2s")
    assert first.code == 0, first.err
    steps = {path: path.stat().st_mtime_ns for path in (tmp_path / "s.mdfy.run" / "audit").rglob("*.safetensors")}
    assert steps
    again = audit(tmp_path, "--budget", "2s")
    assert again.json["result"]["findings"] == first.json["result"]["findings"]
    assert {path: path.stat().st_mtime_ns for path in steps} == steps
    plan = (tmp_path / "s.mdfy.run" / "audit" / "plan.json").read_text()
    for path in steps:
        path.unlink()
    told: list[tuple[int, int, float]] = []
    monkeypatch.setattr(Console, "emit", lambda _, e: told.append((e.images_seen, e.images_total, e.eta_seconds)))
    anew = audit(tmp_path, "--budget", "2s")
    done, total, left = zip(*told, strict=True)
    assert list(done) == sorted(done)
    assert (done[-1], left[-1]) == (total[-1], 0)  # the costs of all steps are those of the plan
    assert (tmp_path / "s.mdfy.run" / "audit" / "plan.json").read_text() == plan
    assert anew.json["result"]["findings"] == first.json["result"]["findings"]


def test_class_decides_what_is_refused(home: tuple[Path, Result], tmp_path: Path) -> None:
    shutil.copytree(home[0], tmp_path, dirs_exist_ok=True)
    refused = audit(tmp_path, "--budget", "2s", "--style-data", "confidential")
    assert refused.code == 11
    assert "membership AUC" in refused.json["error"]["why"]
    assert (tmp_path / "s.mdfy.audit" / "report.html").is_file()  # what was found can be looked at


def test_another_bundle_or_other_pictures_are_said(home: tuple[Path, Result], studio: Path, tmp_path: Path) -> None:
    """An audit against the wrong pictures would find nothing, and say so as if it were good news."""
    shutil.copytree(home[0], tmp_path, dirs_exist_ok=True)
    other = audit(tmp_path, "--run", studio / "style.mdfy.run")
    assert (other.code, "not made by that run" in other.json["error"]["what"]) == (2, True)
    draw_photos(tmp_path / "photos", 5)
    wrong = provider("audit", "s.mdfy", "--dataset", "photos", "--key", "keys/studio.mdfykey", "--json", cwd=tmp_path)
    assert (wrong.code, "60 of the 60 images" in wrong.json["error"]["what"]) == (10, True)
    missing = audit(tmp_path, "--run", "nowhere")
    assert missing.code == 2
    steps = audit(tmp_path, "--budget", "20steps")
    assert steps.code == 2


# package --------------------------------------------------------------------------


def test_undeclared_images_are_confidential_and_refused_unless_measured(studio: Path, tmp_path: Path) -> None:
    """P-71, P-79, P-80, P-82: nothing is written; a reason is signed; the critic stays at home."""
    shutil.copytree(studio / "keys", tmp_path / "keys")
    draw_photos(tmp_path / "set", 8)
    words = ("package", "--dataset", "set", "--budget", "2steps", *PACKAGE, *QUICK)
    refused = provider(*words, "--json", cwd=tmp_path)
    assert refused.code == 11
    assert refused.json["error"]["why"].startswith("not measured: copy rate, ")
    assert refused.json["error"]["why"].endswith("the images count as confidential")
    assert "public (--style-data)" in refused.json["error"]["hint"]
    assert not (tmp_path / "set.mdfy").exists()
    assert not (tmp_path / "set.mdfy.run").exists()  # that is said before hours of training, not after them
    empty = provider(*words, "--accept-leakage", " ", cwd=tmp_path)
    assert empty.code == 2
    path = provider(*words, "--accept-leakage", "see me@example.org", cwd=tmp_path)
    assert path.code == 6
    done = provider(*words, "--accept-leakage", "the owner of all pictures agreed", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    manifest = manifest_of(tmp_path / "set.mdfy")
    audit = manifest.privacy.memorisation_audit
    assert audit is not None
    assert (audit.status, audit.critic_shipped) == ("accepted", False)
    assert audit.reason == "the owner of all pictures agreed"
    assert "the owner of all pictures agreed" in manifest.privacy.statement
    assert manifest.privacy.training_data.classification == "confidential"
    assert not any("discriminator" in file.file for file in manifest.model.weights)


def test_too_few_held_out_images_are_told_before_training(studio: Path, tmp_path: Path) -> None:
    """P-78, P-80: an audit of 6 held-out images cannot end otherwise."""
    shutil.copytree(studio / "keys", tmp_path / "keys")
    words = ("package", "--dataset", "synthetic", "--limit", "24", "--style-data", "confidential", "--out", "s.mdfy")
    words = (*words, "--budget", "2steps", "--dry-run", "--json", *TINY, *QUICK)
    warned = provider(*words, cwd=tmp_path).json["warnings"]
    why = "the bundle will be refused: 6 images held out, 59 needed"
    assert warned == [f"{why} (--holdout, more images, --style-data, --accept-leakage)"]
    for enough in (("--accept-leakage", "all agreed"), ("--style-data", "licensed"), ("--limit", "236")):
        assert provider(*words, *enough, cwd=tmp_path).json["warnings"] == [], enough


def test_refused_package_repeats_to_the_same_figures(
    studio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P-80: no fresh draw for who asks again, and a reason signs the figures that were seen."""
    monkeypatch.setattr(package, "_SHORTEST", 0.0)
    shutil.copytree(studio / "keys", tmp_path / "keys")
    words = ("package", "--dataset", "synthetic", "--limit", "24", "--style-data", "confidential", "--out", "s.mdfy")
    words = (*words, "--budget", "4steps", *TINY, *QUICK, "--json")

    def kept() -> dict[str, int]:
        folder = tmp_path / "s.mdfy.run" / "audit"
        return {str(path): path.stat().st_mtime_ns for path in (*folder.rglob("*.safetensors"), folder / "plan.json")}

    first = provider(*words, cwd=tmp_path)
    assert (first.code, "the training is kept" in first.err) == (11, True)
    seen, told = kept(), json.loads((tmp_path / "s.mdfy.run" / "audit" / "report" / "leakage.json").read_text())
    assert provider(*words, cwd=tmp_path).code == 11
    assert kept() == seen
    done = provider(*words, "--accept-leakage", "all of them agreed", cwd=tmp_path)
    assert (done.code, kept()) == (0, seen), done.err
    assert done.json["result"]["leakage"]["findings"] == told["findings"]


def test_stage_2_works_without_a_critic(studio: Path, tmp_path: Path) -> None:
    """P-82: the adversarial term is left out."""
    shutil.copytree(studio / "keys", tmp_path / "keys")
    small = ("--dataset", "synthetic", "--limit", "8", "--budget", "2steps", "--critic", "no", "--out", "s.mdfy")
    done = provider("package", *small, *PACKAGE, *QUICK, "--json", cwd=tmp_path)
    assert (done.code, done.json["result"]["critic"]) == (0, False)
    draw_photos(tmp_path / "photos", 3)
    key = tmp_path / "keys" / "studio.mdfykey"
    fingerprint = read_provider_key(key).fingerprint
    assert client("trust", "add", key, "--fingerprint", fingerprint, cwd=tmp_path).code == 0
    words = ("adapt", "--no-align", "--bundle", "s.mdfy", "--photos", "photos", "--budget", "2steps", *QUICK)
    adapted = client(*words, cwd=tmp_path)
    assert adapted.code == 0, adapted.err


@pytest.mark.parametrize(
    "words", [("--critic", "maybe"), ("--style-data", "secret"), ("--audit", "20steps"), ("--audit", "x")]
)
def test_options_are_checked_before_training(words: tuple[str, str], studio: Path) -> None:
    result = provider("package", "--dataset", "synthetic", "--limit", "8", *TINY, *words, cwd=studio)
    assert result.code == 2, result.err


def test_what_the_audit_needs_is_checked_before_training(
    studio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(studio / "keys", tmp_path / "keys")
    draw_photos(tmp_path / "one", 1)
    words = (
        "package",
        "--dataset",
        "synthetic",
        "--limit",
        "8",
        "--budget",
        "2steps",
        *TINY,
        *QUICK,
        "--out",
        "s.mdfy",
    )
    assert provider(*words, "--photos", "typo", cwd=tmp_path).code == 10
    few = provider(*words, "--photos", "one", cwd=tmp_path)
    assert (few.code, "two public photos" in few.err) == (2, True)
    monkeypatch.setenv("MODIFY_CONFIG", str(tmp_path))
    (tmp_path / "config.toml").write_text("[package")
    assert provider(*words, cwd=tmp_path).code == 2
    assert not (tmp_path / "s.mdfy.run").exists()


def test_refused_run_leaves_the_note_of_the_bundle_that_is_there(home: tuple[Path, Result], tmp_path: Path) -> None:
    shutil.copytree(home[0], tmp_path, dirs_exist_ok=True)
    words = ("package", "--dataset", "synthetic", "--limit", "60", "--budget", "2steps", "--fresh", "--overwrite")
    again = (*words, "--style-data", "confidential", "--audit", "2s", "--out", "s.mdfy", *TINY, *QUICK)
    assert provider(*again, cwd=tmp_path).code == 11
    assert audit(tmp_path, "--budget", "2s").code == 0


def test_time_of_a_stopped_audit_counts(twins: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise InterruptedRunError("stopped")

    monkeypatch.setattr(attack, "measure_copies", stop)
    with pytest.raises(InterruptedRunError):
        attack.audit(Plan(material=twins, codes=1), tmp_path, lambda _: None)
    (home,) = tmp_path.iterdir()
    assert float((home / "seconds.json").read_text()) > 0


# Controls (P-78) ------------------------------------------------------------------


def test_held_out_images_against_each_other_are_chance(home: tuple[Path, Result]) -> None:
    """Negative control, made in every audit: the interval contains 0.5."""
    told = {f["name"]: f for f in home[1].json["result"]["leakage"]["findings"]}
    control = told["control AUC, held-out against held-out"]
    assert control["low"] <= 0.5 <= control["high"]


BY_HEART = tuple(
    word
    for change in (
        "resolution=32", "w_dim=64", "z_dim=16", "channel_base=1024", "channel_max=32", "enc_base=1024", "enc_max=32",
        "pyramid=32", "trunk=128", "remap_width=16", "encapsulation.batch=4", "encapsulation.learning_rate=0.004",
        "encapsulation.mix=0", "encapsulation.lambda_adv_r=0", "encapsulation.lambda_adv_f=0",
        "encapsulation.lambda_lp=0", "encapsulation.lambda_id=0", "encapsulation.ema_half_life=0",
    )
    for word in ("--set", change)
)  # fmt: skip
"""A recipe that learns pictures and nothing else: they are only reconstructed, 48 times each."""


@pytest.mark.slow
def test_bundle_that_knows_fifty_images_by_heart_is_refused(studio: Path, tmp_path: Path) -> None:
    """Positive control, and the negative one on the same bundle: 50 drawn images against 110 held out."""
    shutil.copytree(studio / "keys", tmp_path / "keys")
    result = provider(
        "package", "--dataset", "synthetic", "--limit", "160", "--holdout", "0.6875", "--budget", "700steps",
        "--style-data", "confidential", "--audit", "30s", "--out", "s.mdfy", "--json", *BY_HEART, *QUICK, cwd=tmp_path,
    )  # fmt: skip
    assert result.code == 11, result.err
    assert re.search(r"membership AUC 0\.\d\d \[.*\] is above 0\.75", result.json["error"]["why"])
    assert not (tmp_path / "s.mdfy").exists()
    run = tmp_path / "s.mdfy.run"
    assert "50 against 110 images" in (run / "audit" / "report" / "report.html").read_text()
    findings = json.loads((run / "audit" / "report" / "leakage.json").read_text())["findings"]
    told = {finding["name"]: finding for finding in findings}
    assert told["membership AUC"]["low"] > 0.6
    control = told["control AUC, held-out against held-out"]
    assert control["low"] <= 0.5 <= control["high"]
