"""One folder of everything that users have: one result or one named reason per file (U-45, U-60, U-61, U-66)."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from programs import client

from modify_fl.synthetic import draw_faces

_WRITTEN = {
    **{f"exif-{turn}.jpg": "as it stands" for turn in range(1, 9)},
    "cmyk.jpg": "four inks", "deep.png": "16 bits", "palette.gif": "256 colours", "two.png": "two faces",
    "upside-down.png": "turned", "déjà vu 🎂 ﷽.png": "unicode", f"{'é' * 120}.png": "long", "grey.webp": "no colours",
    "tall.tiff": "another format", "first.gif": "animated",
}  # fmt: skip
_FAILED = {
    "dot.png": "no face found", "huge.png": "it has more than 100 megapixels", "torn.jpg": "truncated",
    "text.jpg": "it is not JPEG", "wall.png": "no face found", "empty.png": "the file is empty",
    "small.png": "less than 48",
}  # fmt: skip


@pytest.fixture
def folder(desk: Path) -> Path:
    people = draw_faces("photo", 2, 150, 1)
    photo = np.full((200, 200, 3), 190, np.uint8)
    photo[25:175, 25:175] = people[1]
    image, place = Image.fromarray(photo), desk / "stress"
    place.mkdir()
    stands = [None, 0, 3, 1, 5, 2, 4, 6]  # Transpose that undoes each orientation
    for turn, undo in enumerate(stands, 1):
        exif = Image.Exif()
        exif[0x0112] = turn
        back = image if undo is None else image.transpose(_undone(turn))
        back.save(place / f"exif-{turn}.jpg", quality=95, exif=exif)
    image.convert("CMYK").save(place / "cmyk.jpg")
    deep = np.asarray(image.convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(place / "deep.png")
    image.convert("P").save(place / "palette.gif")
    Image.fromarray(np.concatenate([photo, photo[:, ::-1]], 1)).save(place / "two.png")
    image.rotate(180).save(place / "upside-down.png")
    for name in ("déjà vu 🎂 ﷽.png", f"{'é' * 120}.png", "tall.tiff"):
        image.save(place / name)
    image.convert("L").save(place / "grey.webp")
    image.save(place / "first.gif", save_all=True, append_images=[Image.new("RGB", image.size, "red")])
    Image.new("RGB", (1, 1)).save(place / "dot.png")
    Image.new("1", (12000, 9000)).save(place / "huge.png")
    (place / "torn.jpg").write_bytes((place / "exif-1.jpg").read_bytes()[:3000])
    (place / "text.jpg").write_text("not a photo")
    (place / "empty.png").touch()
    Image.new("RGB", (200, 200), "grey").save(place / "wall.png")
    image.resize((50, 50)).save(place / "small.png")
    return place


def _undone(turn: int) -> Image.Transpose:
    ways = Image.Transpose
    return {
        2: ways.FLIP_LEFT_RIGHT, 3: ways.ROTATE_180, 4: ways.FLIP_TOP_BOTTOM, 5: ways.TRANSPOSE, 6: ways.ROTATE_90,
        7: ways.TRANSVERSE, 8: ways.ROTATE_270,
    }[turn]  # fmt: skip


def test_one_result_or_one_named_reason_per_file(desk: Path, folder: Path) -> None:
    words = ("--bundle", "style.mdfy", "stress", "--out", "out", "--threads", "1", "--json")
    result = client("stylize", *words, cwd=desk)
    assert result.code == 13, result.err
    assert "Traceback" not in result.err
    lines = (desk / "out" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    records = {record["photo"]: record for record in map(json.loads, lines)}
    assert len(lines) == len(records) == len(list(folder.iterdir()))
    assert {name for name, record in records.items() if record["status"] == "written"} == set(_WRITTEN)
    for name, reason in _FAILED.items():
        assert records[name]["outputs"] == []
        assert reason in records[name]["reason"], name
    outputs = [name for record in records.values() for name in record["outputs"]]
    assert len(outputs) == len(set(outputs)) == len(_WRITTEN)
    assert all((desk / "out" / name).is_file() for name in outputs)
    assert len(records["two.png"]["faces"]) == 2
    assert records["upside-down.png"]["faces"][0]["found"] == "rotated 180"
    assert records["first.gif"]["remarks"][0] == "only the first of 2 frames was used"


def test_a_phone_held_any_way_gives_the_same_face(desk: Path, folder: Path) -> None:
    del folder
    turned = [f"stress/exif-{turn}.jpg" for turn in range(1, 9)]
    assert client("stylize", "--bundle", "style.mdfy", *turned, "--out", "out", "--threads", "1", cwd=desk).code == 0
    lines = (desk / "out" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    faces = [json.loads(line)["faces"][0] for line in lines]
    for turn, face in enumerate(faces, 1):  # JPEG blocks lie otherwise in a turned picture
        assert face["found"] == "plain"
        assert np.abs(np.subtract(face["box"], faces[0]["box"])).max() <= 6
        with Image.open(desk / "out" / f"exif-{turn}.png") as image:
            assert image.size == (200, 200)
            assert not image.getexif()
