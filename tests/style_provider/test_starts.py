"""``style-provider package --init`` (M-23, ADR 6)."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from basekit import TINY_NETWORK, tiny_base
from programs import PACKAGE, QUICK, provider

from modify_fl.base import card as cards
from protocol.manifest import Manifest
from protocol.verify import inspect_bundle

_SMALL = ("package", "--dataset", "synthetic", "--limit", "8", "--budget", "2steps", *PACKAGE, *QUICK)


@pytest.fixture
def keys(studio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A provider's folder, and a package without bases."""
    shutil.copytree(studio / "keys", tmp_path / "keys")
    monkeypatch.setattr(cards, "HOME", tmp_path / "shipped")
    return tmp_path


def _manifest(path: Path) -> Manifest:
    return inspect_bundle(path).manifest


def test_base_that_fits_is_the_default_and_the_manifest_names_it(keys: Path) -> None:
    base = tiny_base(keys / "shipped", name="base-32")
    result = provider(*_SMALL, "--json", cwd=keys)
    assert result.code == 0, result.err
    assert result.json["result"]["init"] == base.label
    assert _manifest(keys / "synthetic.mdfy").provenance.training.init == base.label
    assert f"starting from base-32 sha256:{base.sha256[:12]}" in result.err
    record = json.loads((keys / "synthetic.mdfy.run" / "config.json").read_text(encoding="utf-8"))
    assert record["settings"]["preset"]["encapsulation"]["parts"][0] == 0  # the recipe for a base
    other = provider(*_SMALL, "--init", "none", "--overwrite", "--json", cwd=keys)
    assert other.code == 2
    assert f"init was {base.label}, now scratch" in other.json["error"]["why"]


def test_without_a_base_the_default_says_so_once(keys: Path) -> None:
    """The default equals --init none bit for bit; only the note differs."""
    default = provider(*_SMALL, "--out", "a.mdfy", cwd=keys)
    assert default.code == 0, default.err
    assert default.err.count("no base model fits the networks of quick-64; training starts from scratch") == 1
    chosen = provider(*_SMALL, "--init", "none", "--out", "b.mdfy", cwd=keys)
    assert chosen.code == 0
    assert "no base model" not in chosen.err
    one, other = _manifest(keys / "a.mdfy"), _manifest(keys / "b.mdfy")
    assert one.provenance.training.init == other.provenance.training.init == "scratch"
    assert [file.sha256 for file in one.model.weights] == [file.sha256 for file in other.model.weights]


def test_base_asked_for_and_not_there(keys: Path) -> None:
    result = provider(*_SMALL, "--init", "base", "--json", cwd=keys)
    assert result.code == 2
    assert result.json["error"]["what"] == "no base model fits the networks of quick-64"
    assert "--init none" in result.json["error"]["hint"]
    assert not list(keys.glob("*.run"))


def test_exported_file_is_a_start(keys: Path) -> None:
    base = tiny_base(keys / "mine", name="own")
    result = provider(*_SMALL, "--init", "mine/own.safetensors", cwd=keys)
    assert result.code == 0, result.err
    assert _manifest(keys / "synthetic.mdfy").provenance.training.init == base.label


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.safetensors", "there is no file"),
        ("lonely.safetensors", "cannot read the base model's record lonely.json"),
        ("changed.safetensors", "were changed"),
        ("wide.safetensors", "wide does not fit these networks"),
        ("model.pt", "refused to read the checkpoint model.pt"),
    ],
)
def test_file_that_cannot_be_a_start_is_one_sentence(name: str, said: str, keys: Path) -> None:
    (keys / "lonely.safetensors").write_bytes(b"")
    (keys / "model.pt").write_bytes(b"no checkpoint")
    tiny_base(keys, name="changed")
    (keys / "changed.safetensors").write_bytes(b"other")
    tiny_base(keys, replace(TINY_NETWORK, w_dim=24, z_dim=24), name="wide")
    result = provider(*_SMALL, "--init", name, cwd=keys)
    assert result.code == 2, result.err
    assert said in result.err
    assert len(result.err.splitlines()) <= 3
    assert not list(keys.glob("*.run"))


def test_show_config_and_set_are_about_the_recipe_in_force(keys: Path) -> None:
    show = ("package", "--dataset", "synthetic", "--show-config", *PACKAGE, "--set", "encapsulation.lambda_id=0.3")
    scratch = json.loads(provider(*show, cwd=keys).out)
    assert (scratch["init"], scratch["encapsulation"]["freeze_d"]) == ("scratch", 0)
    base = tiny_base(keys / "shipped")
    found = json.loads(provider(*show, "--set", "freeze_d=1", cwd=keys).out)
    assert found["init"] == base.label
    assert (found["encapsulation"]["freeze_d"], found["encapsulation"]["parts"][0]) == (1, 0.0)
    assert (found["encapsulation"]["lambda_id"], found["encapsulation"]["batch"]) == (0.3, 4)
    assert "from_base" not in found
    none = json.loads(provider(*show, "--init", "none", cwd=keys).out)
    assert none == scratch


def test_dry_run_says_where_training_would_start(keys: Path) -> None:
    base = tiny_base(keys / "shipped")
    result = provider(*_SMALL, "--dry-run", cwd=keys)
    assert result.code == 0, result.err
    assert f"starting from {base.label}" in result.out
