"""What comes with the package: signed by the shipped key, small, and of nobody (B-34, U-12)."""

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from programs import client

from modify_fl.base.card import HOME as BASES
from modify_fl.data import load_images, to_uint8
from modify_fl.errors import ConfigError
from modify_fl.federated.fab import FAB_SHA256
from modify_fl.ready import DEMO_KEY, HOME, bundle_path, demo_pictures, ready_bundles
from modify_fl.style import Style
from modify_fl.styles import seeded
from protocol.errors import UntrustedKeyError
from protocol.manifest import Manifest
from protocol.provider import read_provider_key
from protocol.trust import TrustStore
from protocol.verify import inspect_bundle, verify_bundle
from tools import draw_demo

_ROOT = Path(__file__).resolve().parents[2]
_PRIVATE = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/]{40}")


def _manifest(name: str) -> Manifest:
    return inspect_bundle(ready_bundles()[name]).manifest


def test_two_styles_or_more_come_along() -> None:
    assert {"paintings", "engravings"} <= set(ready_bundles())


@pytest.mark.parametrize("name", sorted(ready_bundles()))
def test_each_is_signed_by_the_shipped_key_and_no_other(name: str) -> None:
    key, path = read_provider_key(DEMO_KEY), ready_bundles()[name]
    created = _manifest(name).bundle.created
    seen = verify_bundle(path, trust=TrustStore.of(key), now=created)
    assert (seen.signer.fingerprint, seen.manifest.style.name) == (key.fingerprint, name)  # type: ignore[union-attr]
    with pytest.raises(UntrustedKeyError):
        verify_bundle(path, trust=TrustStore.of(), now=created)


@pytest.mark.parametrize("name", sorted(ready_bundles()))
def test_each_says_where_it_comes_from_and_what_was_measured(name: str) -> None:
    manifest = _manifest(name)
    audit = manifest.privacy.memorisation_audit
    assert manifest.privacy.training_data.classification == "public"
    assert manifest.licence.attribution
    assert "public domain" in manifest.licence.dataset
    assert audit is not None
    assert audit.figures
    assert audit.report in {entry.path for entry in manifest.files}
    assert manifest.provenance.training.losses.perceptual.name == "lpips-alex"
    card = (HOME / "README.md").read_text(encoding="utf-8")
    assert read_provider_key(DEMO_KEY).fingerprint in card
    assert str(inspect_bundle(ready_bundles()[name]).payload_digest) in card
    for figure in audit.figures:
        assert f"| `{name}` | {figure.name} | {figure.shown} |" in card


@pytest.mark.parametrize("name", sorted(ready_bundles()))
def test_each_names_the_flower_app_of_this_package(name: str) -> None:
    """F-7: without the digest no site would take part in a federation of this style."""
    published = _manifest(name).federation
    assert published is not None
    assert FAB_SHA256 in published.fab_sha256


def test_nothing_is_too_large_to_ship() -> None:
    files = [path for folder in (HOME, BASES) for path in folder.rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in files) <= 15_000_000
    assert sum(path.stat().st_size for path in files) <= 50_000_000
    assert sum(demo_pictures(look).stat().st_size for look in ("photo", "painting")) <= 6_000_000


def test_no_private_key_is_in_the_tree() -> None:
    folders = ("modify_fl", "protocol", "style_provider", "content_client", "examples", "tools", "benchmarks", "docs")
    for path in (path for folder in folders for path in (_ROOT / folder).rglob("*") if path.is_file()):
        if path.suffix in {".pem", ".age", ".agekey"} or _PRIVATE.search(path.read_bytes()):
            pytest.fail(f"{path} holds a private key")


def test_a_name_means_the_shipped_style_unless_a_file_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "paintings").mkdir()  # a provider's pictures, no bundle
    assert bundle_path(Path("paintings")) == HOME / "paintings.mdfy"
    for path in (Path("mine.mdfy"), Path("folder/paintings"), tmp_path / "paintings"):
        assert bundle_path(path) == path
    (tmp_path / "engravings").touch()
    assert bundle_path(Path("engravings")) == Path("engravings")
    with pytest.raises(ConfigError, match="there is no file paintigs") as caught:
        bundle_path(Path("paintigs"))
    assert "engravings, paintings" in caught.value.fix


def test_programs_take_the_name_once_the_key_is_accepted(tmp_path: Path) -> None:
    unknown = client("verify", "paintings", "--json", cwd=tmp_path)
    assert unknown.code == 5
    assert unknown.json["error"]["fix"][-1] == "--demo"
    assert client("inspect", "paintings", cwd=tmp_path).code == 0
    assert client("trust", "add", "--demo", cwd=tmp_path).code == 0
    assert client("verify", "engravings", cwd=tmp_path).code == 0
    refused = client("stylize", "--bundle", "paintigs", "demo", "--out", "out", cwd=tmp_path)
    assert refused.code == 2
    assert "engravings, paintings" in refused.err


def test_styles_paint_and_differ_from_each_other() -> None:
    trust = TrustStore.of(read_provider_key(DEMO_KEY))
    faces = load_images("demo", resolution=64, limit=4).batch(range(4))  # [4, 3, 64, 64]
    painted = [Style.load(name, trust=trust).paint(faces, seeded((1,)))[0] for name in ("paintings", "engravings")]
    for one, other in ((painted[0], faces), (painted[1], faces), (painted[0], painted[1])):
        assert float((one - other).abs().mean()) > 0.1  # a twentieth of the range from black to white


def test_demo_pictures_are_what_the_script_draws(tmp_path: Path) -> None:
    count = len(zipfile.ZipFile(demo_pictures("photo")).namelist())
    assert count >= 200
    stored = to_uint8(load_images("demo", resolution=64).batch(range(count)))
    drawn = [np.asarray(picture) for _, picture in draw_demo.photos(tmp_path, count, 2026)]
    assert np.abs(stored.astype(int) - np.stack(drawn)).max() <= 3  # other processors round otherwise
    paintings = load_images("demo", resolution=64, look="painting")
    assert len(paintings) == count
    assert paintings.names[0] == "painting-000.png"
