"""Rules U-45, U-66: which photos there are."""

import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from programs import draw_photos

from content_client.photos import default_photos, listed_photos, open_photos
from modify_fl.errors import DataError


def test_default_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        default_photos()
    assert "no folder ./photos" in caught.value.why
    (tmp_path / "photos").mkdir()
    assert default_photos() == Path("photos")
    monkeypatch.setenv("MODIFY_PHOTOS", "elsewhere")
    with pytest.raises(DataError, match="elsewhere"):
        default_photos()


def test_photos_of_files_folders_and_archives(tmp_path: Path) -> None:
    folder = draw_photos(tmp_path / "set" / "sub", 2).parent
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.write(folder / "sub" / "p0.png", "z/p0.png")
    single = folder / "sub" / "p1.png"
    with ExitStack() as stack:
        photos = open_photos([folder, single, tmp_path / "set.zip", folder], stack)
        assert [photo.name for photo in photos] == ["sub/p0.png", "sub/p1.png", "p1.png", "z/p0.png"]
        assert photos[2].read() == photos[1].read() == single.read_bytes()
        assert photos[3].read() == photos[0].read()


def test_demo_means_the_faces_that_came_along_and_a_path_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        draw_photos(tmp_path / "demo", 1)
        photos = open_photos(["demo", "demo"], stack)
        assert (photos[0].name, len(photos)) == ("photo-000.png", 240)
        assert photos[0].read().startswith(b"\x89PNG")
        assert [photo.name for photo in open_photos(["./demo"], stack)] == ["p0.png"]


def test_a_photo_that_is_not_there_stops_before_work(tmp_path: Path) -> None:
    with ExitStack() as stack, pytest.raises(DataError, match="there is no photo or folder"):
        open_photos([tmp_path / "missing.jpg"], stack)


def test_patterns_find_photos_in_order_and_names_with_brackets_are_names(tmp_path: Path) -> None:
    draw_photos(tmp_path, 2)
    (tmp_path / "a[1].png").write_bytes((tmp_path / "p0.png").read_bytes())
    with ExitStack() as stack:
        assert [photo.name for photo in open_photos([tmp_path / "p*.png"], stack)] == ["p0.png", "p1.png"]
        assert [photo.name for photo in open_photos([tmp_path / "a[1].png"], stack)] == ["a[1].png"]
        with pytest.raises(DataError, match="nothing matches"):
            open_photos([tmp_path / "*.jpg"], stack)


def test_a_list_names_photos_from_its_own_folder(tmp_path: Path) -> None:
    draw_photos(tmp_path / "in", 1)
    (tmp_path / "list.txt").write_text("in/p0.png\n\n  in/p0.png  \n", encoding="utf-8-sig")
    assert listed_photos(tmp_path / "list.txt") == [tmp_path / "in" / "p0.png"] * 2
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    for name, why in (("empty.txt", "names no photo"), ("bytes.txt", "cannot read"), ("none.txt", "cannot read")):
        with pytest.raises(DataError, match=why):
            listed_photos(tmp_path / name)
