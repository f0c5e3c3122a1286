"""Sets that do not fit in memory: decoded once into a private file and mapped (M-51)."""

import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from modify_fl import data, data_files, photo
from modify_fl.data import load_images
from modify_fl.data_files import PixelFile, cache_folder, memory_limit
from modify_fl.errors import DataError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODIFY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def draw(folder: Path, count: int, side: int = 12) -> Path:
    folder.mkdir(exist_ok=True)
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (side, side, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")
    return folder


def test_public_names() -> None:
    assert data_files.__all__ == sorted(data_files.__all__)
    assert all(hasattr(data_files, name) for name in data_files.__all__)


def test_mapped_set_equals_the_one_in_memory(tmp_path: Path) -> None:
    """Pixels, names, digest, what was left out, subsets: nothing tells them apart but where they lie."""
    source = draw(tmp_path / "set", 24)
    (source / "broken.png").write_bytes(b"no picture")
    plain, mapped = load_images(source, resolution=8), load_images(source, resolution=8, in_memory=0)
    assert mapped.file is not None
    assert plain.file is None
    assert (mapped.digest, mapped.names, mapped.skipped) == (plain.digest, plain.names, plain.skipped)
    assert mapped.skipped[0][0] == "broken.png"
    assert torch.equal(mapped.batch([5, 0, 5]), plain.batch([5, 0, 5]))
    some = [7, 3, 20]
    part, copy = mapped.subset(some), plain.subset(some)
    assert (part.digest, part.names, len(part)) == (copy.digest, copy.names, 3)
    assert torch.equal(part.batch([2, 0]), copy.batch([2, 0]))
    again = part.subset([1])
    assert (again.digest, again.names) == (copy.subset([1]).digest, ("003.png",))
    assert part.images.data_ptr() == mapped.images.data_ptr()  # no copy


def test_batches_of_a_mapped_set_do_not_change_it(tmp_path: Path) -> None:
    mapped = load_images(draw(tmp_path / "set", 3), resolution=8, in_memory=0)
    before = mapped.batch([0])
    mapped.batch([0]).zero_()
    mapped.images[1] = 0  # stays in this process
    assert torch.equal(mapped.batch([0]), before)
    assert load_images(tmp_path / "set", resolution=8, in_memory=0).images[1].sum() > 0


def test_files_are_private_and_can_be_removed(tmp_path: Path, home: Path) -> None:
    mapped = load_images(draw(tmp_path / "set", 3), resolution=8, in_memory=0)
    (folder,) = home.iterdir()
    assert stat.S_IMODE(home.stat().st_mode) == stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert sorted(path.name for path in folder.iterdir()) == ["pixels.bin", "set.json"]
    mapped.subset([0, 1]).discard()
    assert list(home.iterdir()) == []
    assert mapped.batch([2]).shape == (1, 3, 8, 8)
    load_images(tmp_path / "set", resolution=8).discard()  # nothing to remove


@pytest.mark.parametrize("packed", [False, True])
def test_decoded_pictures_are_found_again_unless_a_file_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    folder, reads = draw(tmp_path / "set", 4), []
    source = folder

    def pack() -> Path:
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            for path in sorted(folder.iterdir()):
                archive.write(path, path.name)
        return tmp_path / "set.zip"

    source = pack() if packed else folder
    decode = data.read_picture
    monkeypatch.setattr(data, "read_picture", lambda *a, **k: reads.append(1) or decode(*a, **k))
    first = load_images(source, resolution=8, in_memory=0)
    assert load_images(source, resolution=8, in_memory=0).digest == first.digest
    assert len(reads) == 4
    load_images(source, resolution=8, in_memory=0, limit=2)  # another choice of pictures
    load_images(source, resolution=4, in_memory=0)  # another size
    assert len(reads) == 4 + 2 + 4
    Image.fromarray(np.full((12, 12, 3), 9, np.uint8)).save(folder / "001.png")
    os.utime(folder / "001.png", (10**9, 10**9))
    if packed:
        pack()
    assert load_images(source, resolution=8, in_memory=0).digest != first.digest
    assert len(reads) == 4 + 2 + 4 + 4


def test_half_a_file_is_never_taken_for_a_set(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop while decoding leaves nothing; a file that lost bytes is made again."""
    source = draw(tmp_path / "set", 4)
    calls = iter([None, None, KeyboardInterrupt()])
    fit = photo.fit_square

    def stop(*args: object) -> object:
        if error := next(calls):
            raise error
        return fit(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(photo, "fit_square", stop)
        with pytest.raises(KeyboardInterrupt):
            load_images(source, resolution=8, in_memory=0)
    assert list(home.iterdir()) == []
    first = load_images(source, resolution=8, in_memory=0)
    (folder,) = home.iterdir()
    (folder / "pixels.bin").write_bytes(b"short")
    assert torch.equal(
        load_images(source, resolution=8, in_memory=0).batch([3]), load_images(source, resolution=8).batch([3])
    )
    assert len(first) == 4


def test_a_mapped_set_that_was_not_judged_is_judged_when_it_is_found(tmp_path: Path) -> None:
    source = draw(tmp_path / "set", 3)
    (source / "broken.png").write_bytes(b"no picture")
    assert len(load_images(source, resolution=8, in_memory=0, judged=False)) == 3
    with pytest.raises(DataError, match="more than 5 %"):
        load_images(source, resolution=8, in_memory=0)
    for path in source.glob("0*.png"):
        path.write_bytes(b"")
    assert len(load_images(source, resolution=8, in_memory=0, judged=False)) == 0
    with pytest.raises(DataError, match="more than 5 %"):
        load_images(source, resolution=8, in_memory=0)


def test_full_disk_is_one_sentence(tmp_path: Path, home: Path) -> None:
    home.write_text("a file where the folder should be")
    with pytest.raises(DataError, match="cannot keep the decoded pictures") as caught:
        load_images(draw(tmp_path / "set", 2), resolution=8, in_memory=0)
    assert "MODIFY_CACHE" in caught.value.fix


def test_too_many_unreadable_files_leave_no_file_behind(tmp_path: Path, home: Path) -> None:
    source = draw(tmp_path / "set", 4)
    (source / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="more than 5 %"):
        load_images(source, resolution=8, in_memory=0)
    assert list(home.iterdir()) == []


def test_limit_is_a_quarter_of_what_may_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(data_files, "_CGROUP", limit)
    machine = memory_limit()  # no such file: the machine's own memory
    assert machine > 1 << 20
    limit.write_text("max\n")
    assert memory_limit() == machine
    limit.write_text("4000\n")
    assert memory_limit() == 1000


def test_cache_folder_is_that_of_the_user(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    assert cache_folder() == home
    monkeypatch.delenv("MODIFY_CACHE")
    assert cache_folder().name == "pictures"
    assert PixelFile("a" * 64).folder.parent == cache_folder()


_FLAT = """
import io
import sys
import numpy as np
from pathlib import Path
from modify_fl import data
from modify_fl.data import shuffled_indices
from modify_fl.datasets import PictureFiles
from modify_fl.faces.decode import Picture

def private():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

count, side, mapped = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "mapped"
noise = np.random.default_rng(0).integers(0, 256, (64, side, side, 3)).astype(np.uint8)
picture = Picture(pixels=noise[0])
data.read_picture = lambda raw, name: Picture(pixels=noise[int(name) % 64])  # decoding is not what is measured
files = PictureFiles(title="drawn", names=tuple(map(str, range(count))), open_file=lambda name: io.BytesIO(b"x"))
data._load(files, side, 64, 0).batch([0, 1])  # libraries are loaded and buffers made
before = private()
images = data._load(files, side, None, 0 if mapped else 1 << 62)
part = images.subset(range(0, count, 2))
for at in range(0, len(part), 32):
    part.batch(shuffled_indices(len(part), 1, at, 32))
sys.stdout.write(str(private() - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to measure private memory")
def test_memory_stays_flat_however_large_the_set(home: Path) -> None:
    """6,000 pictures at 128 px are 295 MB: loading, halving and reading them holds less than 80 MB more."""

    def growth(kind: str) -> float:
        words = [sys.executable, "-c", _FLAT, "6000", "128", kind]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
        return int(done.stdout) / 1e6

    assert growth("mapped") < 80
    assert growth("memory") > 295  # the measure sees a set that does lie in memory
