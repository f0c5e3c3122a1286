"""Folders, ZIP files and the official layouts of named data sets (U-21, U-24, U-30)."""

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modify_fl import datasets
from modify_fl.datasets import DATASETS, open_pictures
from modify_fl.errors import DataError


def png(level: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), level, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def put(path: Path, data: bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def names(source: str | Path, data_root: Path | None = None) -> tuple[str, ...]:
    with open_pictures(source, data_root=data_root) as files:
        return files.names


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_public_names() -> None:
    assert datasets.__all__ == sorted(datasets.__all__)
    assert all(hasattr(datasets, name) for name in datasets.__all__)


def test_folder_is_searched_at_every_depth_in_the_order_of_paths(tmp_path: Path) -> None:
    for name in ("b.png", "a/z.JPG", "a/b/c.webp", "a.tif", "B.bmp", "a/d.gif", "e.heic", "f.jpeg", "g.tiff"):
        put(tmp_path / name)
    expected = ("B.bmp", "a.tif", "a/b/c.webp", "a/d.gif", "a/z.JPG", "b.png", "e.heic", "f.jpeg", "g.tiff")
    assert names(tmp_path) == expected
    assert names(str(tmp_path)) == expected


def test_hidden_and_other_files_are_no_pictures(tmp_path: Path) -> None:
    for name in ("a.png", ".b.png", ".thumbnails/c.png", "__MACOSX/d.png", "notes.txt", "metfaces.json", "png"):
        put(tmp_path / name)
    assert names(tmp_path) == ("a.png",)


def test_sub_folder_that_may_not_be_read_is_no_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a.png")
    put(tmp_path / "locked" / "b.png")
    whole = os.scandir

    def scandir(path: str) -> object:
        # Root may read everything, so the refusal has to be made up.
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"cannot list .*locked") as caught, open_pictures(tmp_path):
        pass
    assert caught.value.why == "permission denied"


def test_folder_whose_own_path_is_hidden_is_searched(tmp_path: Path) -> None:
    put(tmp_path / ".cache" / "a.png")
    assert names(tmp_path / ".cache") == ("a.png",)


def test_files_are_read_while_open(tmp_path: Path) -> None:
    put(tmp_path / "a" / "b.png", png(9))
    with open_pictures(tmp_path) as files:
        assert files.read("a/b.png") == png(9)
        (tmp_path / "a" / "b.png").unlink()
        with pytest.raises(DataError, match=r"cannot read a/b[.]png") as caught:
            files.read("a/b.png")
    assert caught.value.why == "no such file or directory"


def test_file_above_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "_MAX_FILE_BYTES", 10)
    put(tmp_path / "a.png", bytes(10))
    put(tmp_path / "b.png", bytes(11))
    with open_pictures(tmp_path) as files:
        assert files.read("a.png") == bytes(10)
        with pytest.raises(DataError) as caught:
            files.read("b.png")
    assert caught.value.why == "the file is larger than 512 MiB"


def test_zip_file(tmp_path: Path) -> None:
    members = {"b.png": png(1), "a/c.png": png(2), "readme.txt": b"", "__MACOSX/._b.png": b"", "dir\\d.png": png(3)}
    path = zipped(tmp_path / "faces.zip", members)
    with open_pictures(path) as files:
        assert files.names == ("a/c.png", "b.png", "dir/d.png")
        assert files.rejected == ()
        assert [files.read(name) for name in files.names] == [png(2), png(1), png(3)]


def test_zip_names_that_lead_out_are_rejected_by_name(tmp_path: Path) -> None:
    bad = ("../a.png", "/b.png", "c/../../d.png", "C:/e.png")
    path = zipped(tmp_path / "faces.zip", dict.fromkeys((*bad, "good.png"), png(1)))
    with open_pictures(path) as files:
        assert files.names == ("good.png",)
        assert files.rejected == tuple((name, "its path leads out of the archive") for name in bad)


def test_zip_name_that_comes_twice_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a\\b.png", png(1))
        archive.writestr("a/b.png", png(2))
    with open_pictures(path) as files:
        assert files.rejected == (("a/b.png", "its name comes twice"),)
        assert files.read("a/b.png") == png(1)


def test_damaged_member_of_a_zip_is_one_unreadable_picture(tmp_path: Path) -> None:
    path = zipped(tmp_path / "faces.zip", {"a.png": png(1), "b.png": png(2)})
    data = path.read_bytes()
    at = data.index(png(2))
    path.write_bytes(data[: at + 20] + bytes([data[at + 20] ^ 1]) + data[at + 21 :])
    with open_pictures(path) as files:
        assert files.read("a.png") == png(1)
        with pytest.raises(DataError, match=r"cannot read b[.]png"):
            files.read("b.png")


def test_encrypted_member_of_a_zip_is_one_unreadable_picture(tmp_path: Path) -> None:
    path = zipped(tmp_path / "faces.zip", {"a.png": png(1)})
    data = bytearray(path.read_bytes())
    data[6] |= 1  # bit 0 of the flags: in the local header, and in the directory at its offset 8
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with open_pictures(path) as files, pytest.raises(DataError, match=r"cannot read a[.]png") as caught:
        files.read("a.png")
    assert "encrypted" in caught.value.why


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 not an archive", b"\xff\xd8\xff photo"])
def test_file_that_is_no_zip(data: bytes, tmp_path: Path) -> None:
    put(tmp_path / "faces.zip", data)
    with pytest.raises(DataError, match="cannot open"), open_pictures(tmp_path / "faces.zip"):
        pass


def test_source_that_is_not_there_names_the_choices(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder or file") as caught, open_pictures(tmp_path / "none"):
        pass
    assert "celeba-hq, demo, ffhq, metfaces, synthetic" in caught.value.fix


def test_source_without_pictures(tmp_path: Path) -> None:
    put(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="there is no picture in"), open_pictures(tmp_path):
        pass


# --- cards ----------------------------------------------------------------------------------------------------------


def test_cards_are_complete() -> None:
    assert list(DATASETS) == ["celeba-hq", "demo", "ffhq", "metfaces", "synthetic"]
    for name, card in DATASETS.items():
        assert card.name == name
        assert card.style_data in {"public", "licensed", "confidential"}
        assert len(card.how_to_get) == 3
        assert card.licence in card.how_to_get[1]
        assert card.url in card.how_to_get[0]
    assert DATASETS["metfaces"].style_data == "public"  # P-71


def metfaces(root: Path, count: int = 3) -> list[dict[str, object]]:
    """MetFaces as its authors publish it: README of NVlabs/metfaces-dataset, section Metadata."""
    entries: list[dict[str, object]] = []
    for index in range(count):
        path = f"images/{100 + index}-00.png"
        put(root / path, png(index))
        entries.append(
            {
                "obj_id": str(100 + index),
                "source_path": f"unprocessed/image-{100 + index}.png",
                "source_md5": "c1e4c5a42de6a4d6909d3820c16f9eb5",
                "image_path": path,
                "image_md5": hashlib.md5(png(index), usedforsecurity=False).hexdigest(),
                "face_idx": 0,
                "face_spec": {"rect": [0, 0, 4, 4], "landmarks": [], "shrink": 2},
            }
        )
    put(root / "unprocessed" / "image-100.png", png(200))
    put(root / "metfaces.json", json.dumps(entries).encode())
    return entries


def test_metfaces_takes_the_listed_pictures_and_checks_them(tmp_path: Path) -> None:
    metfaces(tmp_path)
    with open_pictures("metfaces", data_root=tmp_path) as files:
        assert files.names == ("images/100-00.png", "images/101-00.png", "images/102-00.png")
        assert files.read("images/101-00.png") == png(1)
        put(tmp_path / "images/101-00.png", png(77))
        with pytest.raises(DataError, match="cannot use images/101") as caught:
            files.read("images/101-00.png")
    assert caught.value.why == "its MD5 is not the one the data set lists"
    assert caught.value.expected == hashlib.md5(png(1), usedforsecurity=False).hexdigest()


def test_metfaces_understands_the_names_of_ffhq_and_entries_without_path(tmp_path: Path) -> None:
    entries = metfaces(tmp_path)
    wrong = "0" * 32
    changed = [
        {"file_path": "images/100-00.png", "file_md5": wrong},
        {"obj_id": "101", "face_idx": 0, "file_md5": wrong.upper()},
        {"obj_id": 102, "face_idx": 0},
    ]
    put(tmp_path / "metfaces.json", json.dumps(changed).encode())
    with open_pictures("metfaces", data_root=tmp_path) as files:
        assert list(files.names) == [entry["image_path"] for entry in entries]
        for name in files.names[:2]:
            with pytest.raises(DataError, match="cannot use"):
                files.read(name)
        assert files.read(files.names[2]) == png(2)  # no checksum is given


def test_metfaces_paths_that_lead_out_are_rejected(tmp_path: Path) -> None:
    entries = metfaces(tmp_path / "set")
    put(tmp_path / "secret.png", png(1))
    entries[0]["image_path"] = "../secret.png"
    put(tmp_path / "set" / "metfaces.json", json.dumps(entries).encode())
    with open_pictures("metfaces", data_root=tmp_path / "set") as files:
        assert len(files.names) == 2
        assert files.rejected == (("../secret.png", "its path leads out of the data set"),)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"a": 1}', '[{"title": "no path"}]', "3", '[{"obj_id": "1", "face_idx": "x"}]']
)
def test_damaged_metfaces_list(text: str, tmp_path: Path) -> None:
    metfaces(tmp_path)
    put(tmp_path / "metfaces.json", text.encode())
    with pytest.raises(DataError, match="cannot read"), open_pictures("metfaces", data_root=tmp_path):
        pass


def test_data_is_looked_for_below_modify_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODIFY_DATA", str(tmp_path))
    metfaces(tmp_path, count=1)
    assert len(names("metfaces")) == 1
    metfaces(tmp_path / "metfaces", count=2)
    assert len(names("metfaces")) == 2  # the folder with its name goes first
    metfaces(tmp_path / "elsewhere", count=3)
    assert len(names("metfaces", tmp_path / "elsewhere")) == 3  # --data-root goes before both


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["images1024x1024/00000/00000.png", "images1024x1024/69000/69999.png"], 2),
        (["images1024x1024/00000.png", "thumbnails128x128/00000/00000.png"], 1),
        (["thumbnails128x128/00000/00000.png", "in-the-wild-images/00000/00001.png"], 1),
        (["000/00000.png", "069/69999.png", "docs/teaser.png"], 2),
        (["00000/00000.png", "01000/01000.png", "readme.png"], 2),
    ],
)
def test_layouts_of_ffhq(files: list[str], expected: int, tmp_path: Path) -> None:
    for name in files:
        put(tmp_path / name, png(1))
    found = names("ffhq", tmp_path)
    assert found == tuple(files[:expected])


@pytest.mark.parametrize("folder", ["data1024x1024", "CelebA-HQ-img", "data256x256"])
def test_layouts_of_celeba_hq(folder: str, tmp_path: Path) -> None:
    put(tmp_path / folder / "0.jpg")
    put(tmp_path / "CelebAMask-HQ-mask-anno" / "0" / "00000_skin.png")
    assert names("celeba-hq", tmp_path) == (f"{folder}/0.jpg",)


def test_flat_celeba_hq_needs_a_folder_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "holiday.jpg")
    monkeypatch.setenv("MODIFY_DATA", str(tmp_path))
    with pytest.raises(DataError), open_pictures("celeba-hq"):
        pass
    assert names("celeba-hq", tmp_path) == ("holiday.jpg",)
    put(tmp_path / "celeba-hq" / "0.jpg")
    assert names("celeba-hq") == ("0.jpg",)


@pytest.mark.parametrize("name", ["celeba-hq", "ffhq", "metfaces"])
@pytest.mark.parametrize("where", ["nothing", "environment", "option"])
def test_missing_data_set_is_explained_in_three_lines(
    name: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "environment":
        monkeypatch.setenv("MODIFY_DATA", str(tmp_path))
    root = tmp_path if where == "option" else None
    with pytest.raises(DataError) as caught, open_pictures(name, data_root=root):
        pass
    error, card = caught.value, DATASETS[name]
    lines = [error.what, error.why, error.fix]
    assert all(line and "\n" not in line for line in lines)
    assert card.url in error.what
    assert card.licence in error.why
    assert card.layout in error.fix
    place = {"nothing": f"$MODIFY_DATA/{name}", "environment": f"{tmp_path}/{name}", "option": str(tmp_path)}
    assert f"into {place[where]}, or" in error.fix
    assert "the data set demo" in error.fix
    assert "met-cc0" not in " ".join(lines)  # it cannot be built yet
    assert error.exit_code == 10


def test_demo_is_paintings_or_photos() -> None:
    for look, first in (("painting", "painting-000.png"), ("photo", "photo-000.png")):
        with open_pictures("demo", look=look) as files:
            assert (files.title, files.names[0]) == ("demo", first)
            assert files.read(first).startswith(b"\x89PNG")


def test_synthetic_has_no_files() -> None:
    with pytest.raises(DataError, match="has no files"), open_pictures("synthetic"):
        pass


def test_folder_with_the_name_of_a_data_set_needs_a_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "metfaces" / "a.png")
    assert names("./metfaces") == ("a.png",)
    assert names(Path("metfaces")) == ("a.png",)
    with pytest.raises(DataError), open_pictures("metfaces"):
        pass


def test_real_folder_is_found_whole(shared_data: Path) -> None:
    # README of the data: 172 photos.
    assert len(names(shared_data / "content" / "london" / "128")) == 172
