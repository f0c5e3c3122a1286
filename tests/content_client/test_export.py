"""``content-client export`` (U-19, P-39): the file paints as torch does, and says what it may and may not."""

import getpass
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from programs import QUICK, Result, client, draw_photos
from vaultkit import put_photos

from content_client.exporting import _release
from modify_fl import onnx as subject
from modify_fl.data import load_images, to_uint8
from modify_fl.errors import ConfigError
from modify_fl.style import Style
from modify_fl.styles import Controls, seeded
from protocol.errors import PolicyError
from protocol.manifest import Usage
from protocol.privacy import DpMechanism, DpStatement, privacy_statement
from protocol.provider import read_provider_key
from protocol.trust import TrustStore
from protocol.verify import open_bundle

_EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "05_onnx_without_torch.py"
_REASON = "shown at the fair with the consent of those in the photos"
_STYLES = ("--styles", "3", "--seed", "5")


def _export(folder: Path, *words: str | Path) -> Result:
    return client("export", "--onnx", "--bundle", "style.mdfy", *words, cwd=folder)


@pytest.fixture(scope="module")
def exports(studio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A client's folder with ``plain.onnx`` and ``adapted.onnx``, made once: each takes seconds."""
    folder = tmp_path_factory.mktemp("exports")
    shutil.copy(studio / "style.mdfy", folder)
    before = os.environ.get("MODIFY_CONFIG")
    os.environ["MODIFY_CONFIG"] = str(folder / "config")
    try:
        key = studio / "keys" / "studio.mdfykey"
        fingerprint = read_provider_key(key).fingerprint
        assert client("trust", "add", key, "--fingerprint", fingerprint, cwd=folder).code == 0
        draw_photos(folder / "photos", 2)
        length = ("--budget", "4steps", "--set", "learning_rate=0.002", "--subset", "all")
        assert client("adapt", "--no-align", "--bundle", "style.mdfy", *length, *QUICK, cwd=folder).code == 0
        plain = _export(folder, "--out", "plain.onnx", *_STYLES, "--json")
        adapted = _export(folder, "--out", "adapted.onnx", "--adapter", "photos.mdfa", *_STYLES,
                          "--release-unprotected", _REASON)  # fmt: skip
        assert (plain.code, adapted.code) == (0, 0), plain.err + adapted.err
        assert plain.json["result"]["styles"] == [5, 6, 7]
        assert "nothing is guaranteed" in adapted.err
    finally:
        os.environ["MODIFY_CONFIG"] = before or ""
    return folder


@pytest.fixture
def mine(exports: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the exports, with the trust store it was made with."""
    monkeypatch.setenv("MODIFY_CONFIG", str(exports / "config"))
    return exports


def _metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


@pytest.mark.parametrize("name", ["plain", "adapted"])
def test_onnxruntime_paints_what_torch_paints(name: str, mine: Path) -> None:
    """U-19: within 1e-3 for photos, batch sizes, styles and strengths, with and without an adapter."""
    adapter = mine / "photos.mdfa" if name == "adapted" else None
    style = Style.load(mine / "style.mdfy", trust=TrustStore.default(), adapter=adapter)
    session = onnxruntime.InferenceSession(mine / f"{name}.onnx", providers=["CPUExecutionProvider"])
    noise = json.loads(_metadata(mine / f"{name}.onnx")["styles"])
    assert sorted(noise) == ["5", "6", "7"]
    photos = load_images("synthetic", resolution=32, look="photo", limit=7).batch(range(7))
    for batch, strength in ((photos[:1], 1.0), (photos[1:3], 0.5), (photos[3:], 1.0), (photos, 0.0)):
        for seed in (5, 6, 7):
            z = np.repeat(np.array([noise[str(seed)]], np.float32), len(batch), 0)
            feed = {"photo": batch.numpy(), "z": z, "strength": np.array(strength, np.float32)}
            (painted,) = session.run(None, feed)
            expected = style.paint(batch, seeded((seed,)), Controls(strength=strength))[0].numpy()
            assert painted.shape == expected.shape
            assert np.abs(painted - expected).max() < 1e-3


def test_a_batch_may_mix_styles_and_strength_is_clipped(mine: Path) -> None:
    style = Style.load(mine / "style.mdfy", trust=TrustStore.default())
    session = onnxruntime.InferenceSession(mine / "plain.onnx", providers=["CPUExecutionProvider"])
    noise = json.loads(_metadata(mine / "plain.onnx")["styles"])
    photos = load_images("synthetic", resolution=32, look="photo", limit=2).batch(range(2))
    feed = {
        "photo": photos.numpy(),
        "z": np.array([noise["5"], noise["7"]], np.float32),
        "strength": np.array(3, np.float32),
    }
    (painted,) = session.run(None, feed)
    expected = style.paint_each(photos, seeds=((5,), (7,)))[:, 0].numpy()
    assert np.abs(painted - expected).max() < 1e-3
    assert np.abs(painted).max() <= 1


def test_the_adapter_is_inside_and_the_encoder_that_it_replaced_is_not(mine: Path) -> None:
    plain, adapted = ((mine / f"{name}.onnx").stat().st_size for name in ("plain", "adapted"))
    assert abs(adapted - plain) < 2000  # metadata only
    photo = load_images("synthetic", resolution=32, look="photo", limit=1).batch([0]).numpy()
    feed = {"photo": photo, "z": np.ones((1, 16), np.float32), "strength": np.array(0, np.float32)}
    pictures = [onnxruntime.InferenceSession(mine / f"{n}.onnx").run(None, feed)[0] for n in ("plain", "adapted")]
    assert np.abs(pictures[0] - pictures[1]).max() > 0.01


def test_metadata_says_what_it_is_and_what_may_be_done(mine: Path) -> None:
    with_adapter, without = _metadata(mine / "adapted.onnx"), _metadata(mine / "plain.onnx")
    style = Style.load(mine / "style.mdfy", trust=TrustStore.default()).loaded
    assert without["bundle"] == style.digest
    assert without["licence"] == style.manifest.licence.model
    assert without["privacy"] == style.manifest.privacy.statement
    assert "guarantee" not in without
    assert (with_adapter["guarantee"], with_adapter["release_reason"]) == ("none", _REASON)
    assert with_adapter["adapter_privacy"].startswith("This adapter was trained on photos without differential privacy")


def test_terms_of_the_provider_go_along(
    desk: Path, publish: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("content_client.exporting.onnx_bytes", lambda *_, facts, **__: json.dumps(facts).encode())
    publish(desk / "terms.mdfy", Usage(allowed=("teaching",), prohibited=("adverts", "masks")))
    done = client("export", "--onnx", "--bundle", "terms.mdfy", "--out", "a.onnx", cwd=desk)
    assert done.code == 0, done.err
    assert "prohibited by the provider: masks" in done.out
    facts = json.loads((desk / "a.onnx").read_text())
    assert json.loads(facts["allowed"]) == ["teaching"]
    assert json.loads(facts["prohibited"]) == ["adverts", "masks"]


@pytest.mark.parametrize("name", ["plain", "adapted"])
def test_no_path_no_time_no_name_of_this_machine(name: str, mine: Path) -> None:
    content = (mine / f"{name}.onnx").read_bytes()
    here = Path(subject.__file__).parent
    told = [str(here), str(mine), ".py", "site-packages", "pkg."]  # the exporter itself writes all of these
    assert [text for text in told if text.encode() in content] == []
    said = set(re.findall(r"[\w.-]+", " ".join(_metadata(mine / f"{name}.onnx").values())))
    assert {platform.node(), getpass.getuser()} & said == set()
    assert [word for word in said if word.startswith(str(datetime.now(UTC).year))] == []


def test_weights_from_photos_stay_without_a_reason(mine: Path) -> None:
    """P-39."""
    words = ("--adapter", "photos.mdfa", "--out", "no.onnx")
    refused = _export(mine, *words, "--json")
    assert (refused.code, refused.json["error"]["code"]) == (6, "E_LOCAL_ONLY")
    assert "--release-unprotected" in refused.json["error"]["hint"]
    for reason in ("", " ", "two\nlines", "x" * 201):
        assert _export(mine, *words, "--release-unprotected", reason).code == 2
    linted = _export(mine, *words, "--release-unprotected", "copied from /home/ann/holiday", "--json")
    assert (linted.code, linted.json["error"]["code"]) == (6, "E_LINT")
    idle = _export(mine, "--out", "no.onnx", "--release-unprotected", _REASON)
    assert idle.code == 2
    assert "is not needed" in idle.err
    assert not (mine / "no.onnx").exists()


_DP = DpStatement(
    applied=True, unit="image", adjacency="add/remove", epsilon=3.0, delta=1e-5,
    mechanisms=(DpMechanism(sampling_rate=0.1, noise_multiplier=1.0, max_grad_norm=1.0, steps=100),), accountant="PRV",
    accountant_version="opacus", releases=("first",), n_is_public=False, tuned_on_private="nothing",
    not_covered=("stylised images you share",),
)  # fmt: skip


@pytest.mark.parametrize(
    ("dp", "release", "free"),
    [(_DP, "shareable", True), (_DP, "local-only", False), (DpStatement(applied=False), "shareable", False)],
)
def test_only_weights_with_a_guarantee_that_may_be_shared_go_freely(
    dp: DpStatement, release: str, free: bool, mine: Path
) -> None:
    """P-37, P-39: an adapter with a guarantee needs no reason."""
    now = datetime.now(UTC)
    with open_bundle(mine / "photos.mdfa", trust=TrustStore.default(), now=now) as adapter:
        manifest = adapter.manifest
    card = replace(manifest.privacy, dp=dp, statement=privacy_statement("encoder-adapter", dp))
    manifest = replace(manifest, privacy=card, release=release)  # type: ignore[arg-type]
    if free:
        assert _release(manifest, None) == {"adapter_privacy": card.statement}
        with pytest.raises(ConfigError, match="is not needed"):
            _release(manifest, _REASON)
        return
    with pytest.raises(PolicyError, match="local-only"):
        _release(manifest, None)
    assert _release(manifest, _REASON)["guarantee"] == "none"


def test_an_adapter_is_signed_again_to_be_shared(mine: Path) -> None:
    """P-39: the reason and that nothing is guaranteed are in the file."""
    words = ("export", "--mdfa", "--bundle", "style.mdfy", "--adapter", "photos.mdfa", "--out", "shared.mdfa")
    refused = client(*words, "--json", cwd=mine)
    assert (refused.code, refused.json["error"]["code"]) == (6, "E_LOCAL_ONLY")
    planned = client(*words, "--release-unprotected", _REASON, "--dry-run", cwd=mine)
    assert planned.code == 0, planned.err
    assert not (mine / "shared.mdfa").exists()
    done = client(*words, "--release-unprotected", _REASON, "--json", cwd=mine)
    assert done.code == 0, done.err
    assert done.json["result"]["guarantee"] == "none"
    with open_bundle(mine / "shared.mdfa", trust=TrustStore.default(), now=datetime.now(UTC)) as shared:
        assert shared.manifest.release == "shareable"
        assert shared.manifest.privacy.dp.reason == _REASON
        with open_bundle(mine / "photos.mdfa", trust=TrustStore.default(), now=datetime.now(UTC)) as local:
            weights = local.manifest.model.weights[0].file
            assert shared.read(weights) == local.read(weights)
    assert client(*words[:-1], "twice.mdfa", cwd=mine).code == 6
    (mine / "shared.mdfa").unlink()


def test_whoever_gets_an_adapter_does_as_its_maker_was_told(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("export", "--mdfa", "--bundle", "style.mdfy", "--adapter", "photos.mdfa", "--release-unprotected", _REASON)
    lines = client(*words, "--out", tmp_path / "shared.mdfa", cwd=mine).out.splitlines()
    shutil.copy(next(line.split("  ")[1].strip() for line in lines if line.startswith("public key")), tmp_path)
    monkeypatch.setenv("MODIFY_CONFIG", str(tmp_path / "another machine"))
    assert client("verify", "shared.mdfa", cwd=tmp_path).code == 5
    command = next(line for line in lines if "trust add" in line).partition("runs: content-client ")[2].split()
    accepted = client(*command, cwd=tmp_path)
    assert accepted.code == 0, accepted.err
    assert client("verify", "shared.mdfa", cwd=tmp_path).code == 0


@pytest.mark.parametrize("words", [("--mdfa", "--out", "b.mdfa"), ("--mdfa", "--onnx", "--out", "b.mdfa")])
def test_the_form_of_an_adapter_needs_one_and_stands_alone(mine: Path, words: tuple[str, ...]) -> None:
    assert client("export", "--bundle", "style.mdfy", *words, cwd=mine).code == 2


def test_the_ledger_of_photos_knows_what_left_unprotected(mine: Path, tmp_path: Path) -> None:
    """P-39: nothing is claimed about these photos afterwards, and who has vaults must say which photos they are."""
    photos = put_photos(tmp_path / "vault")
    assert client("privacy", "init", "--photos", photos, cwd=mine).code == 0
    words = ("--adapter", "photos.mdfa", "--release-unprotected", _REASON, "--out", "e.onnx")
    unsaid = _export(mine, *words)
    assert (unsaid.code, "--photos" in unsaid.err) == (2, True)
    assert not (mine / "e.onnx").exists()
    assert _export(mine, *words, "--photos", str(photos)).code == 0
    said = client("privacy", "statement", "--photos", photos, cwd=mine)
    assert said.out.startswith("guarantee: none (")
    assert _REASON in said.out
    (mine / "e.onnx").unlink()


def test_the_form_must_be_named_and_results_are_never_replaced(mine: Path) -> None:
    formless = client("export", "--bundle", "style.mdfy", "--out", "b.onnx", cwd=mine)
    assert formless.code == 2
    assert "add --onnx" in formless.err
    before = (mine / "plain.onnx").read_bytes()
    assert _export(mine, "--out", "plain.onnx").code == 9
    assert (mine / "plain.onnx").read_bytes() == before
    assert _export(mine, "--out", "plain.onnx/b.onnx").code == 2


def test_a_folder_that_is_not_there_is_made(mine: Path, tmp_path: Path) -> None:
    looked = _export(mine, "--out", tmp_path / "new" / "a.onnx", "--dry-run")
    assert (looked.code, list(tmp_path.iterdir())) == (0, []), looked.err
    assert _export(mine, "--out", tmp_path / "new" / "a.onnx").code == 0
    words = ("export", "--mdfa", "--bundle", "style.mdfy", "--adapter", "photos.mdfa", "--release-unprotected", _REASON)
    shared = client(*words, "--out", tmp_path / "new" / "deep" / "a.mdfa", cwd=mine)
    assert shared.code == 0, shared.err
    assert {path.name for path in (tmp_path / "new").rglob("*")} == {"a.onnx", "deep", "a.mdfa"}


def test_dry_run_verifies_and_writes_nothing(mine: Path) -> None:
    files = sorted(mine.rglob("*"))
    words = ("--adapter", "photos.mdfa", "--release-unprotected", _REASON, "--out", "c.onnx", "--dry-run")
    planned = _export(mine, *words, "--json")
    assert planned.code == 0, planned.err
    assert planned.json["result"]["guarantee"] == "none"
    assert planned.json["result"]["styles"] == list(range(16))
    assert sorted(mine.rglob("*")) == files
    damaged = bytearray((mine / "style.mdfy").read_bytes())
    damaged[-1] ^= 1
    (mine / "bad.mdfy").write_bytes(damaged)
    assert client("export", "--onnx", "--bundle", "bad.mdfy", "--out", "c.onnx", "--dry-run", cwd=mine).code in {3, 4}
    (mine / "bad.mdfy").unlink()


def test_an_adapter_of_another_bundle_is_refused(desk: Path, mine: Path, publish: Callable[..., str]) -> None:
    publish(mine / "other.mdfy", Usage(), id=str(uuid.uuid4()))
    words = ("--adapter", "photos.mdfa", "--release-unprotected", _REASON, "--out", "d.onnx")
    refused = client("export", "--onnx", "--bundle", "other.mdfy", *words, "--json", cwd=mine)
    assert (refused.code, refused.json["error"]["code"]) == (6, "E_BASE")
    assert not (mine / "d.onnx").exists()


def test_who_may_use_a_style_is_asked_as_for_every_other_use(
    desk: Path, publish: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """B-27."""
    publish(desk / "sent.mdfy", Usage(audience=("age1x",)))
    refused = client("export", "--onnx", "--bundle", "sent.mdfy", "--out", "e.onnx", "--json", cwd=desk)
    assert (refused.code, refused.json["error"]["code"]) == (6, "E_AUDIENCE")
    identity = client("trust", "identity", "--no-passphrase", "--json", cwd=desk).json["result"]["recipient"]
    publish(desk / "mine.mdfy", Usage(audience=(identity,)), recipients=(identity,))
    monkeypatch.setattr("content_client.exporting.onnx_bytes", lambda *_, **__: b"graph")
    done = client("export", "--onnx", "--bundle", "mine.mdfy", "--out", "e.onnx", cwd=desk)
    assert done.code == 0, done.err
    assert "the ONNX file is not encrypted" in done.err
    assert (desk / "e.onnx").read_bytes() == b"graph"
    publish(desk / "terms.mdfy", Usage(requires_acknowledgement=True))
    unread = client("export", "--onnx", "--bundle", "terms.mdfy", "--out", "f.onnx", "--json", cwd=desk)
    assert (unread.code, unread.json["error"]["code"]) == (6, "E_USAGE")


def test_without_the_extra_it_is_one_sentence(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_PACKAGES", ("onnx", "no_such_package"))
    refused = _export(desk, "--out", "f.onnx", "--json")
    assert refused.code == 12
    assert refused.json["error"]["what"] == "an ONNX file needs the package no_such_package"
    assert "pip install 'modify-fl[onnx]'" in refused.json["error"]["hint"]
    assert not (desk / "f.onnx").exists()


def test_torch_paints_as_before_after_an_export(mine: Path) -> None:
    # The exporter runs the networks on tensors without values; none may stay in the cache of filters.
    from modify_fl.ops import fir_filter

    assert all(type(fir_filter(total)) is torch.Tensor for total in (1.0, 4.0))


@pytest.mark.parametrize(("seed", "drawn"), [("6", False), ("99", True)])
def test_example_paints_without_torch(seed: str, drawn: bool, mine: Path, tmp_path: Path) -> None:
    draw_photos(tmp_path, 1, side=32)
    words = [mine / "plain.onnx", tmp_path / "p0.png", tmp_path / "out.png", seed]
    done = subprocess.run([sys.executable, _EXAMPLE, *words], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert ("(drawn here)" in done.stdout) is drawn
    with Image.open(tmp_path / "out.png") as image:
        painted = np.asarray(image).astype(int)
    assert painted.shape == (32, 32, 3)
    style = Style.load(mine / "style.mdfy", trust=TrustStore.default())
    photo = load_images(tmp_path, resolution=32).batch([0])
    expected = to_uint8(style.paint(photo, seeded((int(seed),)))[0])[0].astype(int)
    assert (np.abs(painted - expected).max() <= 1) is not drawn
