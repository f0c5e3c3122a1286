"""Rules U-35, U-40, U-65, U-66: names of outputs, records, and runs that go on."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from content_client.photos import Photo
from content_client.results import Job, Journal, Record, output_stems, write_records
from modify_fl.errors import ConfigError
from modify_fl.styles import seeded


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jpg"], ["a"]),
        (["a.b.jpeg"], ["a.b"]),  # the full stem is kept
        (["sub/a.jpg"], ["sub/a"]),  # and so are sub-folders
        (["a.jpg", "a.webp"], ["a.jpg", "a.webp"]),  # the old suffix tells them apart
        (["a.jpg", "A.png"], ["a.jpg", "A.png"]),  # also where case does not count
        (["a.jpg", "a.jpg"], ["a.jpg", "a.jpg-2"]),  # of two folders
        (["contact-sheet.png"], ["contact-sheet-2"]),  # that name is taken
        (["e\u0301.jpg", "\u00e9.png"], ["e\u0301.jpg", "\u00e9.png"]),  # some systems take these for one name
    ],
)
def test_outputs_are_named_after_their_photos(names: list[str], expected: list[str]) -> None:
    assert output_stems(names) == expected


_NAMES = st.lists(
    st.from_regex(r"[aA\u00e4](/[aA])?(-2|-s1|-face1)?(\.(jpg|png))?", fullmatch=True), min_size=1, max_size=8
)


@given(_NAMES, st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True), st.booleans())
def test_no_two_outputs_share_a_name(names: list[str], seeds: list[int], crops: bool) -> None:
    job = _job(names, seeds, crops=crops)
    outputs = [name.casefold() for at in range(len(names)) for own in job.names(at, (1, 2)) for name in own]
    assert len(set(outputs)) == len(names) * len(seeds) * (2 if crops else 1)


@given(st.text("äbc🎂", min_size=1, max_size=400), st.integers(0, 10**9))
def test_long_names_fit_every_file_system(stem: str, seed: int) -> None:
    # 255 bytes; what is being written has a name of its own, shorter than this.
    outputs = _job([f"sub/{stem}.jpg", f"sub/{stem}c.jpg"], [seed, seed + 1]).names(0)
    assert all(len(name.encode()) <= 4 + 240 for own in outputs for name in own)


def _job(names: list[str], seeds: list[int], *, crops: bool = False) -> Job:
    photos = [Photo(name=name, read=bytes) for name in names]
    return Job(photos=photos, stems=output_stems(names), styles=seeded(seeds), out=Path("out"), crops=crops)


def test_records_are_one_line_each(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    write_records(path, [Record(photo="ä.jpg", status="failed", reason="why"), Record(photo="b", status="written")])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0])["reason"] == "why"
    assert "ä.jpg" in lines[0]
    assert len(lines) == 2


_DONE = Record(photo="a.jpg", status="written", outputs=("a.png",), styles=("s1",), faces=({"box": [1, 2, 3, 4]},))


def test_a_journal_knows_what_an_earlier_call_finished(tmp_path: Path) -> None:
    path = tmp_path / "unfinished.jsonl"
    with Journal(path, {"xi": 4}, fresh=False) as journal:
        assert journal.finished("a.jpg", "a", tmp_path) is None
        journal.add(_DONE)
    again = Journal(path, {"xi": 4}, fresh=False)
    assert again.finished("a.jpg", "a", tmp_path) is None  # its picture is not there
    (tmp_path / "a.png").touch()
    assert again.finished("a.jpg", "a", tmp_path) == _DONE
    assert again.finished("a.jpg", "a.jpg", tmp_path) is None  # now it would have another name
    assert Journal(path, {"xi": 4}, fresh=True).finished("a.jpg", "a", tmp_path) is None


def test_a_journal_with_other_settings_names_the_differences(tmp_path: Path) -> None:
    path = tmp_path / "unfinished.jsonl"
    with Journal(path, {"controls": {"xi": 4, "width": 0}}, fresh=False) as journal:
        journal.add(_DONE)
    with pytest.raises(ConfigError) as caught:
        Journal(path, {"controls": {"xi": 3, "width": 0}}, fresh=False)
    assert caught.value.why == "controls.xi was 4, now 3"


def test_a_torn_line_of_a_journal_is_a_photo_that_was_not_finished(tmp_path: Path) -> None:
    path = tmp_path / "unfinished.jsonl"
    with Journal(path, {}, fresh=False) as journal:
        journal.add(_DONE)
    path.write_text(path.read_text() + '{"photo": "b.jp')
    (tmp_path / "a.png").touch()
    again = Journal(path, {}, fresh=False)
    assert again.finished("a.jpg", "a", tmp_path) == _DONE
    assert again.finished("b.jpg", "b", tmp_path) is None


def test_a_complete_run_leaves_no_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "unfinished.jsonl", {}, fresh=False) as journal:
        journal.add(_DONE)
        journal.complete()
    assert not list(tmp_path.iterdir())
