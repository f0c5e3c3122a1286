"""The program that signs what comes with the package, with a key that nobody keeps."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from programs import PACKAGE, QUICK, provider

from modify_fl.bundle import load_style
from protocol.provider import read_provider_key
from protocol.trust import TrustStore
from protocol.verify import open_bundle
from tools import release_ready


@pytest.fixture
def finished(studio: Path, tmp_path: Path) -> Path:
    """A finished bundle under the name of a style that is shipped."""
    return Path(shutil.copy(studio / "style.mdfy", tmp_path / "paintings.mdfy"))


def _release(studio: Path, source: Path, out: Path) -> int:
    out.mkdir(exist_ok=True)
    key = studio / "keys" / "studio.mdfykey"
    return release_ready.main([str(source), "--signed-by", str(key), "--out", str(out)])


def test_a_bundle_is_signed_anew_and_half_as_large(studio: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "ready"
    assert _release(studio, finished, out) == 0
    key, now = read_provider_key(out / "demo.mdfykey"), datetime.now(UTC)
    with open_bundle(out / "paintings.mdfy", trust=TrustStore.of(key), now=now) as bundle:
        after, facts = load_style(bundle), bundle.facts()
    old_key = read_provider_key(studio / "keys" / "studio.mdfykey")
    with open_bundle(finished, trust=TrustStore.of(old_key), now=now) as bundle:
        before = load_style(bundle)
    for name, value in before.model.encoder.state_dict().items():
        new = after.model.encoder.state_dict()[name]
        assert new == pytest.approx(value, rel=5e-4, abs=1e-6), name  # float16 keeps 11 bits
    manifest = facts.manifest
    assert manifest.bundle.id != before.manifest.bundle.id
    assert (manifest.bundle.name, manifest.provider.name) == ("paintings", "modify-fl demo")
    assert manifest.licence.attribution.startswith("oil portraits")
    assert manifest.privacy.memorisation_audit == before.manifest.privacy.memorisation_audit
    assert {info.dtype for file in manifest.model.weights for info in file.tensors.values()} == {"F16", "F32"}
    assert facts.payload_digest in (out / "README.md").read_text(encoding="utf-8")


def test_the_private_key_is_written_nowhere_and_new_each_time(studio: Path, finished: Path, tmp_path: Path) -> None:
    fingerprints = []
    for name in ("a", "b"):
        assert _release(studio, finished, tmp_path / name) == 0
        assert {path.name for path in (tmp_path / name).iterdir()} == {"README.md", "demo.mdfykey", "paintings.mdfy"}
        fingerprints.append(read_provider_key(tmp_path / name / "demo.mdfykey").fingerprint)
    assert fingerprints[0] != fingerprints[1]


def test_it_refuses_in_a_sentence(
    studio: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _release(studio, Path(shutil.copy(finished, tmp_path / "other.mdfy")), tmp_path / "out") == 2
    assert "no style to ship is called other" in capsys.readouterr().err
    damaged = bytearray(finished.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    finished.write_bytes(damaged)
    assert _release(studio, finished, tmp_path / "out") == 4
    assert not list((tmp_path / "out").iterdir())


def test_only_public_pictures_are_shipped(studio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(studio / "keys", tmp_path / "keys")
    made = provider(
        "package", "--dataset", "synthetic", "--limit", "8", "--budget", "1steps", "--style-data", "licensed",
        "--out", "paintings.mdfy", *PACKAGE, *QUICK, cwd=tmp_path,
    )  # fmt: skip
    assert made.code == 0, made.err
    assert _release(studio, tmp_path / "paintings.mdfy", tmp_path / "out") == 2
    assert "licensed pictures" in capsys.readouterr().err
