"""``content-client stylize`` (U-22, U-40, U-45, U-60 to U-67)."""

import json
import os
import shutil
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image
from programs import QUICK, Result, client, draw_photos

from content_client import painting
from modify_fl.faces.decode import Picture
from modify_fl.photo import PhotoReader, ReadPhoto
from modify_fl.synthetic import draw_faces
from protocol.errors import StorageError
from protocol.manifest import Usage
from protocol.trust import config_folder


def _stylize(desk: Path, *words: str | Path) -> object:
    return client("stylize", "--no-align", "--bundle", "style.mdfy", *words, "--threads", "1", "--json", cwd=desk)


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_one_picture_per_photo_and_style(desk: Path) -> None:
    words = ("--bundle", "style.mdfy", "photos", "--styles", "3", "--seed", "4", "--out", "out", "--threads", "1")
    result = client("stylize", "--no-align", *words, cwd=desk)
    assert result.code == 0, result.err
    names = {f"p{photo}-s{seed}.png" for photo in (0, 1) for seed in (4, 5, 6)}
    assert {path.name for path in (desk / "out").iterdir()} == names | {"contact-sheet.png", "results.jsonl"}
    assert _pixels(desk / "out" / "p0-s4.png").shape == (32, 32, 3)
    records = [json.loads(line) for line in (desk / "out" / "results.jsonl").read_text().splitlines()]
    assert [record["photo"] for record in records] == ["p0.png", "p1.png"]
    assert records[0]["outputs"] == ["p0-s4.png", "p0-s5.png", "p0-s6.png"]
    assert records[0]["styles"] == ["s4", "s5", "s6"]


def test_a_folder_that_is_not_there_is_made(desk: Path) -> None:
    looked = _stylize(desk, "photos", "--out", "new/deep", "--dry-run")
    assert (looked.code, (desk / "new").exists()) == (0, False)
    refused = _stylize(desk, "photos", "--out", "style.mdfy/deep")
    assert (refused.code, refused.json["error"]["what"]) == (2, "style.mdfy is no folder")
    assert _stylize(desk, "photos", "--out", "new/deep").code == 0
    assert (desk / "new" / "deep" / "p0.png").is_file()


def test_same_seed_same_picture(desk: Path) -> None:
    assert _stylize(desk, "photos", "--seed", "2", "--out", "a").code == 0
    assert _stylize(desk, "photos", "--styles", "2", "--seed", "1", "--out", "b").code == 0
    # A style is named by its seed, whatever else is drawn beside it.
    assert (_pixels(desk / "a" / "p0.png") == _pixels(desk / "b" / "p0-s2.png")).all()
    assert (_pixels(desk / "b" / "p0-s1.png") != _pixels(desk / "b" / "p0-s2.png")).any()


def test_strength_zero_and_xi_zero_leave_the_style_out(desk: Path) -> None:
    for name, words in {"none": ("--strength", "0"), "xi": ("--xi", "0"), "full": ()}.items():
        assert _stylize(desk, "photos/p0.png", "--out", name, *words).code == 0
    none, xi, full = (_pixels(desk / name / "p0.png") for name in ("none", "xi", "full"))
    assert (none == xi).all()  # both are D(E(x)) (M-25, M-26)
    assert (none != full).any()


def test_larger_xi_than_trained_is_refused(desk: Path) -> None:
    result = _stylize(desk, "photos", "--xi", "5", "--out", "out")  # 32 px: xi = 4 (M-24)
    assert result.code == 2
    assert result.json["error"]["expected"] == "0 to 4"
    assert not (desk / "out").exists()


def test_adapter_is_used(desk: Path) -> None:
    words = ("--budget", "4steps", "--set", "learning_rate=0.002", "--subset", "all")
    assert client("adapt", "--no-align", "--bundle", "style.mdfy", *words, *QUICK, cwd=desk).code == 0
    assert _stylize(desk, "photos", "--out", "plain").code == 0
    assert _stylize(desk, "photos", "--adapter", "photos.mdfa", "--out", "adapted").code == 0
    assert (_pixels(desk / "plain" / "p0.png") != _pixels(desk / "adapted" / "p0.png")).any()


def test_one_bad_photo_does_not_stop_the_others(desk: Path) -> None:
    (desk / "photos" / "bad.jpg").write_bytes(b"no picture")
    result = _stylize(desk, "photos", "--out", "out")
    assert result.code == 13
    assert result.json["result"]["failed"] == ["bad.jpg"]
    assert (desk / "out" / "p1.png").is_file()
    records = [json.loads(line) for line in (desk / "out" / "results.jsonl").read_text().splitlines()]
    assert [record["status"] for record in records] == ["failed", "written", "written"]
    assert result.json["error"]["hint"] == "repair them, then run the command for them alone with another --out"
    shutil.copy(desk / "photos" / "p0.png", desk / "photos" / "bad.jpg")
    assert _stylize(desk, "photos/bad.jpg", "--out", "repaired").code == 0  # as the hint says
    assert len((desk / "out" / "results.jsonl").read_text().splitlines()) == 3  # the others keep their records


def test_no_readable_photo_writes_nothing(desk: Path) -> None:
    (desk / "bad.jpg").write_bytes(b"no picture")
    assert _stylize(desk, "bad.jpg", "--out", "out").code == 10
    assert not (desk / "out").exists()


def test_existing_results_are_never_replaced_silently(desk: Path) -> None:
    assert _stylize(desk, "photos", "--out", "out").code == 0
    before = (desk / "out" / "p0.png").read_bytes()
    assert _stylize(desk, "photos", "--out", "out", "--seed", "9").code == 9
    assert (desk / "out" / "p0.png").read_bytes() == before
    assert _stylize(desk, "photos", "--out", "out", "--seed", "9", "--overwrite").code == 0
    assert (desk / "out" / "p0.png").read_bytes() != before


@pytest.mark.parametrize(("words", "noted"), [((), True), (("--no-provenance",), False)])
def test_provenance_names_no_path_and_no_time(words: tuple[str, ...], noted: bool, desk: Path) -> None:
    assert _stylize(desk, "photos/p0.png", "--out", "out", "--seed", "3", *words).code == 0
    with Image.open(desk / "out" / "p0.png") as image:
        text = dict(image.text)  # type: ignore[attr-defined]
    assert bool(text) is noted
    if noted:
        assert sorted(json.loads(text["modify-fl"])) == [
            "bundle", "preserve_color", "refine", "strength", "style", "truncation", "version", "width", "xi",
        ]  # fmt: skip


def test_dry_run_writes_nothing(desk: Path) -> None:
    result = _stylize(desk, "photos", "--styles", "2", "--out", "out", "--dry-run")
    assert (result.code, result.json["result"]["pictures"]) == (0, 4)
    assert not (desk / "out").exists()


def test_contact_sheet_shows_the_first_forty_photos(desk: Path) -> None:
    draw_photos(desk / "many", 41)
    result = client(
        "stylize", "--no-align", "--bundle", "style.mdfy", "many", "--out", "out", "--threads", "1", cwd=desk
    )
    assert result.code == 0
    assert "it shows the first 40 photos" in result.out
    # Rows of 32 + 4 + 14 pixels, a line of captions and a margin above.
    assert _pixels(desk / "out" / "contact-sheet.png").shape[0] == 4 + 14 + 40 * 50


def test_an_older_release_is_refused_once_a_newer_one_was_used(desk: Path, publish: Callable[..., str]) -> None:
    # B-42: the sequence is advanced by use, after all checks.
    name = str(uuid.uuid4())
    publish(desk / "old.mdfy", Usage(), id=name, sequence=1)
    publish(desk / "new.mdfy", Usage(), id=name, sequence=2)
    publish(desk / "other.mdfy", Usage(), id=name, sequence=2, version="2.0.1")
    assert client("stylize", "--no-align", "photos", "--bundle", "old.mdfy", "--out", "a", cwd=desk).code == 0
    assert client("stylize", "--no-align", "photos", "--bundle", "new.mdfy", "--out", "b", cwd=desk).code == 0
    for bundle, code in (("old.mdfy", "E_ROLLBACK"), ("other.mdfy", "E_EQUIVOCATION")):
        refused = client("stylize", "--no-align", "photos", "--bundle", bundle, "--out", "c", "--json", cwd=desk)
        assert (refused.code, refused.json["error"]["code"]) == (6, code)
    assert not (desk / "c").exists()


def test_terms_are_agreed_to_before_use(desk: Path, publish: Callable[..., str]) -> None:
    publish(desk / "t.mdfy", Usage(requires_acknowledgement=True))
    words = ("stylize", "--no-align", "photos", "--bundle", "t.mdfy", "--out", "out")
    refused = client(*words, cwd=desk)
    assert refused.code == 6
    assert "content-client verify t.mdfy --accept-terms" in refused.err
    assert client("verify", "t.mdfy", "--accept-terms", cwd=desk).code == 0
    assert client(*words, cwd=desk).code == 0


def test_a_lost_record_of_what_was_seen_is_told(desk: Path) -> None:
    # W_STATE_RESET
    words = ("stylize", "--no-align", "photos", "--bundle", "style.mdfy", "--out")
    assert client(*words, "a", cwd=desk).code == 0
    (config_folder() / "trust" / "state.json").unlink()
    done = client(*words, "b", cwd=desk)
    assert done.code == 0
    assert "W_STATE_RESET" in done.err
    verified = client("verify", "style.mdfy", "--json", cwd=desk)
    assert verified.code == 0


# Whole photos ---------------------------------------------------------------


@pytest.fixture
def album(desk: Path) -> Path:
    """Whole photos: two people, one person with transparency, and a wall without anybody."""
    people = draw_faces("photo", 3, 130, 1)
    folder = desk / "album"
    (folder / "sub").mkdir(parents=True)
    group = np.full((200, 330, 3), 190, np.uint8)
    group[40:170, 20:150], group[40:170, 180:310] = people[0], people[1]
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (48.0, 8.0, 9.0)}
    Image.fromarray(group).save(folder / "group.jpg", quality=95, exif=exif)
    alone = np.full((180, 180, 4), 255, np.uint8)
    alone[20:150, 20:150, :3] = people[2]
    alone[:, 170:, 3] = 0
    Image.fromarray(alone).save(folder / "sub" / "alone.png")
    Image.fromarray(np.full((90, 90, 3), 120, np.uint8)).save(folder / "wall.png")
    return folder


def _album(desk: Path, *words: str, bundle: str = "style.mdfy") -> Result:
    return client("stylize", "--bundle", bundle, "album", "--out", "out", "--threads", "1", "--json", *words, cwd=desk)


def test_whole_photos_come_back_with_their_faces_painted(desk: Path, album: Path) -> None:
    result = _album(desk)
    assert result.code == 13  # the wall
    assert result.json["result"]["failed"] == ["wall.png"]
    assert result.json["result"]["faces"] == 3
    records = {record["photo"]: record for record in _records(desk)}
    assert records["wall.png"]["reason"] == "no face found"
    assert [face["number"] for face in records["group.jpg"]["faces"]] == [1, 2]
    assert {face["found"] for face in records["group.jpg"]["faces"]} == {"plain"}
    before, after = _pixels(album / "group.jpg").astype(int), _pixels(desk / "out" / "group.png").astype(int)
    assert before.shape == after.shape
    changed = (np.abs(before - after).max(2) > 0).any(0)
    assert changed[40:120].all()
    assert changed[200:280].all()
    assert not changed[:10].any()
    assert not changed[160:170].any()


def test_transparency_stays_and_the_place_goes(desk: Path, album: Path) -> None:
    for name, words in {"out": (), "kept": ("--keep-metadata", "--out", "kept")}.items():
        assert _album(desk, *words).code == 13
        with Image.open(desk / name / "group.png") as image:
            exif = image.getexif()
            assert not exif.get_ifd(ExifTags.IFD.GPSInfo)
            assert exif.get(ExifTags.Base.Make) == ("Maker" if words else None)
        assert b"GPS" not in (desk / name / "group.png").read_bytes()
    before, after = _pixels(album / "sub" / "alone.png"), _pixels(desk / "out" / "sub" / "alone.png")
    assert (before[..., 3] == after[..., 3]).all()


def test_crops_are_the_faces_alone(desk: Path, album: Path) -> None:
    del album
    assert _album(desk, "--crop", "--styles", "2").code == 13
    names = {f"group-face{face}-s{seed}.png" for face in (1, 2) for seed in (0, 1)}
    assert names <= {path.name for path in (desk / "out").iterdir()}
    assert _pixels(desk / "out" / "group-face2-s1.png").shape == (32, 32, 3)


def test_one_face_of_a_group(desk: Path, album: Path) -> None:
    assert _album(desk, "--faces", "2").code == 13
    records = {record["photo"]: record for record in _records(desk)}
    assert [face["number"] for face in records["group.jpg"]["faces"]] == [2]
    assert records["sub/alone.png"]["reason"] == "1 face found, counted from left to right"
    same = (_pixels(desk / "out" / "group.png") == _pixels(album / "group.jpg")).all(2)
    assert same[:, :160].all()
    assert not same[:, 180:310].all()


@pytest.mark.parametrize(
    ("words", "marks"),
    [
        (("--style-seed", "7,3"), ["s7", "s3"]),
        (("--interpolate", "3:7", "--styles", "3"), ["s3to7-000", "s3to7-050", "s3to7-100"]),
        (("--mix", "3:7:1"), ["s3x7-1"]),
        (("--reference", "album/group.jpg", "--reference", "album/sub/alone.png"), ["r-group", "r-alone"]),
    ],
)
def test_styles_are_chosen_in_several_ways(words: tuple[str, ...], marks: list[str], desk: Path, album: Path) -> None:
    del album
    result = _album(desk, *words)
    assert result.code == 13, result.err
    assert result.json["result"]["styles"] == marks
    pictures = [_pixels(desk / "out" / name) for name in _records(desk)[0]["outputs"]]
    assert len(pictures) == len(marks)
    assert len({picture.tobytes() for picture in pictures}) == len(marks)


def test_the_ends_of_a_way_are_the_styles_themselves(desk: Path) -> None:
    assert _stylize(desk, "photos/p0.png", "--interpolate", "3:7", "--out", "way").code == 0
    assert _stylize(desk, "photos/p0.png", "--style-seed", "3,7", "--out", "ends").code == 0
    for mark, seed in (("s3to7-000", 3), ("s3to7-100", 7)):
        assert (_pixels(desk / "way" / f"p0-{mark}.png") == _pixels(desk / "ends" / f"p0-s{seed}.png")).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--mix", "1:2", "--style-seed", "3"), "cannot be used together"),
        (("--mix", "1:2", "--styles", "3"), "cannot be used together"),
        (("--mix", "1"), "cannot read --mix 1"),
        (("--style-seed", "1,x"), "cannot read --style-seed 1,x"),
        (("--style-seed", "1,1"), "asked for twice"),
        (("--interpolate", "1:2", "--styles", "1"), "two pictures or more"),
        (("--strength", "0.5", "--mix", "1:2:9"), "4 rows to mix"),
    ],
)
def test_styles_that_make_no_sense_are_refused_before_work(words: tuple[str, ...], said: str, desk: Path) -> None:
    result = _stylize(desk, "photos", "--out", "out", *words)
    assert result.code == 2
    assert said in result.json["error"]["what"]
    assert not (desk / "out").exists()


def test_colours_of_the_photo_can_be_kept(desk: Path) -> None:
    for name, words in {"own": (), "kept": ("--preserve-color",)}.items():
        assert _stylize(desk, "photos/p0.png", "--out", name, *words).code == 0
    photo = _pixels(desk / "photos" / "p0.png").mean((0, 1))
    far, near = (np.abs(_pixels(desk / name / "p0.png").mean((0, 1)) - photo).max() for name in ("own", "kept"))
    assert near < 8 < far  # grey levels; Lab statistics are those of the photo but for colours no screen shows


def test_refining_writes_down_the_loss_before_and_after(desk: Path) -> None:
    assert _stylize(desk, "photos/p0.png", "--out", "out", "--refine", "4").code == 0
    (face,) = _records(desk)[0]["faces"]
    first, last = face["loss"]
    assert last < first
    assert _stylize(desk, "photos/p0.png", "--out", "plain").code == 0
    assert (_pixels(desk / "out" / "p0.png") != _pixels(desk / "plain" / "p0.png")).any()


def test_a_face_gets_the_same_bits_alone_and_among_others(desk: Path) -> None:
    """M-40: neither the batch nor its order counts."""
    draw_photos(desk / "many", 11)
    assert _stylize(desk, "many", "--out", "all").code == 0
    assert _stylize(desk, "many/p7.png", "--out", "one").code == 0
    assert (_pixels(desk / "all" / "p7.png") == _pixels(desk / "one" / "p7.png")).all()


def test_scores_without_a_face_network_are_refused(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(desk))
    result = _stylize(desk, "photos", "--out", "out", "--scores")
    assert result.code == 12
    assert "weights fetch" in result.json["error"]["hint"]
    assert not (desk / "out").exists()


# Runs that go on --------------------------------------------------------------


def test_a_stopped_run_goes_on_where_it_was(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_photos(desk / "many", 40)
    common = ("--bundle", "style.mdfy", "many", "--threads", "1", "--no-align")
    words = (*common, "--out", "out")
    found = PhotoReader.find

    def stop_at_the_tenth(self: PhotoReader, picture: Picture, *, name: str = "") -> ReadPhoto:
        if name == "p17.png":  # the ninth of the names in order
            os.kill(os.getpid(), signal.SIGTERM)
        return found(self, picture, name=name)

    with monkeypatch.context() as patch:
        patch.setattr(PhotoReader, "find", stop_at_the_tenth)
        stopped = client("stylize", *words, cwd=desk)
    assert stopped.code == 130, stopped.err
    assert f"content-client stylize {' '.join(words)}" in stopped.err
    assert 0 < len(list((desk / "out").glob("*.png"))) < 40
    refused = client("stylize", *words, "--seed", "5", cwd=desk)
    assert refused.code == 2
    assert "styles was ['s0'], now ['s5']" in refused.err
    done = client("stylize", *words, cwd=desk)
    assert done.code == 0, done.err
    assert "going on: " in done.err
    assert client("stylize", *common, "--out", "whole", cwd=desk).code == 0
    for path in sorted((desk / "whole").iterdir()):
        assert path.read_bytes() == (desk / "out" / path.name).read_bytes(), path.name


def test_an_unfinished_run_can_be_started_anew(desk: Path) -> None:
    (desk / "out").mkdir()
    (desk / "out" / "unfinished.jsonl").write_text('{"bundle": "another"}\n')
    assert _stylize(desk, "photos", "--out", "out").code == 2
    assert _stylize(desk, "photos", "--out", "out", "--fresh").code == 0
    assert not (desk / "out" / "unfinished.jsonl").exists()


def test_a_disk_that_is_full_is_one_sentence(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageError("cannot write", why="no space left on device")

    monkeypatch.setattr(painting, "save_png", full)
    result = _stylize(desk, "photos", "--out", "out")
    assert (result.code, result.json["error"]["why"]) == (9, "no space left on device")


def _records(desk: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (desk / "out" / "results.jsonl").read_text().splitlines()]
