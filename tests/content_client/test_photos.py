"""Rules U-45, U-65, U-66: names of outputs, and which photos there are."""

import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import draw_photos

from content_client.photos import Record, default_photos, open_photos, output_names, refuse_existing, write_records
from modify_fl.errors import DataError
from protocol.errors import StorageError


@pytest.mark.parametrize(
    ("names", "seeds", "expected"),
    [
        (["a.jpg"], [5], [("a.png",)]),
        (["a.b.jpeg"], [1], [("a.b.png",)]),  # the full stem is kept
        (["sub/a.jpg"], [1], [("sub/a.png",)]),  # and so are sub-folders
        (["a.jpg", "a.webp"], [1], [("a.jpg.png",), ("a.webp.png",)]),  # the old suffix tells them apart
        (["a.jpg", "A.png"], [1], [("a.jpg.png",), ("A.png.png",)]),  # also where case does not count
        (["a.jpg", "a.jpg"], [1], [("a.jpg.png",), ("a.jpg-2.png",)]),  # of two folders
        (["a.jpg"], [7, 8], [("a-s7.png", "a-s8.png")]),
        (["contact-sheet.png"], [1], [("contact-sheet-2.png",)]),  # that name is taken
    ],
)
def test_output_names(names: list[str], seeds: list[int], expected: list[tuple[str, ...]]) -> None:
    assert output_names(names, seeds) == expected


_NAMES = st.lists(st.from_regex(r"[aA](/[aA])?(-2)?(\.(jpg|png))?", fullmatch=True), min_size=1, max_size=8)


@given(_NAMES, st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True))
def test_no_two_outputs_share_a_name(names: list[str], seeds: list[int]) -> None:
    outputs = [name.casefold() for group in output_names(names, seeds) for name in group]
    assert len(set(outputs)) == len(names) * len(seeds)


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


def test_a_photo_that_is_not_there_stops_before_work(tmp_path: Path) -> None:
    with ExitStack() as stack, pytest.raises(DataError, match="there is no photo or folder"):
        open_photos([tmp_path / "missing.jpg"], stack)


def test_existing_results_are_refused(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in "abc")
    refuse_existing([one, two], overwrite=False)
    one.touch()
    with pytest.raises(StorageError, match="a exists"):
        refuse_existing([one, two], overwrite=False)
    two.symlink_to(three)  # a dangling link is in the way too
    with pytest.raises(StorageError, match=r"1 more exist$"):
        refuse_existing([one, two, three], overwrite=False)
    refuse_existing([one, two], overwrite=True)


def test_records_are_one_line_each(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    write_records(path, [Record(photo="ä.jpg", status="failed", reason="why"), Record(photo="b", status="written")])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == '{"photo": "ä.jpg", "status": "failed", "reason": "why", "outputs": [], "seeds": []}'
    assert len(lines) == 2
