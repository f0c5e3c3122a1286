"""What is kept of a photo's metadata, and what never is (U-67)."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from modify_fl.faces.decode import read_picture, save_png
from modify_fl.faces.metadata import Metadata, photo_metadata

XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<!-- 48.8584 N -->
<rdf:Description rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 exif:GPSLatitude="48,51.504N" tiff:Orientation="6" xmp:CreatorTool="Camera 7">
<dc:creator><rdf:Seq><rdf:li>Ada</rdf:li></rdf:Seq></dc:creator>
<exif:GPSLongitude>2,17.7E</exif:GPSLongitude>
<place xmlns="http://example.org/"><lat:Latitude xmlns:lat="http://example.org/l">48.8584</lat:Latitude></place>
<xmp:Thumbnails><rdf:Alt><rdf:li>/9j/4AAQSkZJRg</rdf:li></rdf:Alt></xmp:Thumbnails>
<xmp:Note>LONG</xmp:Note>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>""".replace("LONG", "QUJD" * 2000)
SECRETS = (b"48.8584", b"48,51", b"2,17.7", b"GPS", b"gps", b"/9j/4AAQ", b"QUJDQUJD", b"maker", b"Eiffel")


def exif() -> Image.Exif:
    """Camera, author and exposure; a position, a maker note, sizes and an orientation."""
    data = Image.Exif()
    data[ExifTags.Base.Make] = "Kodak"
    data[ExifTags.Base.Artist] = "Ada"
    data[ExifTags.Base.Orientation] = 6
    data[ExifTags.Base.ImageDescription] = "x" * 5000
    data[ExifTags.IFD.Exif] = {
        ExifTags.Base.DateTimeOriginal: "2024:05:01 10:00:00",
        ExifTags.Base.FNumber: 2.8,
        ExifTags.Base.MakerNote: b"maker note of a camera",
        ExifTags.Base.ExifImageWidth: 64,
        ExifTags.Base.ColorSpace: 65535,
    }
    data[ExifTags.IFD.GPSInfo] = {
        ExifTags.GPS.GPSLatitudeRef: "N",
        ExifTags.GPS.GPSLatitude: (48.0, 51.0, 30.0),
        ExifTags.GPS.GPSAreaInformation: b"Eiffel tower",
    }
    return data


def with_thumbnail(block: bytes) -> bytes:
    """Add the second directory of EXIF 2.32 (section 4.6.2), which holds a small JPEG."""
    order = "little" if block[6:8] == b"II" else "big"
    body = bytearray(block[6:])
    count = int.from_bytes(body[8:10], order)
    body[10 + 12 * count : 14 + 12 * count] = len(body).to_bytes(4, order)
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "JPEG")
    start = len(body) + 2 + 24 + 4
    entries = b"".join(
        tag.to_bytes(2, order) + (4).to_bytes(2, order) + (1).to_bytes(4, order) + value.to_bytes(4, order)
        for tag, value in ((0x0201, start), (0x0202, len(picture.getvalue())))
    )
    return bytes(block[:6] + body + (2).to_bytes(2, order) + entries + bytes(4) + picture.getvalue())


def photo(kind: str = "JPEG", *, xmp: bytes = XMP.encode()) -> bytes:
    stream = io.BytesIO()
    pixels = np.arange(16 * 32 * 3, dtype=np.uint8).reshape(16, 32, 3)
    Image.fromarray(pixels).save(stream, kind, exif=with_thumbnail(exif().tobytes()), xmp=xmp)
    return stream.getvalue()


def test_the_photo_of_the_tests_has_what_must_go() -> None:
    with Image.open(io.BytesIO(photo())) as image:
        assert image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        assert image.getexif().get_ifd(ExifTags.IFD.IFD1)
        assert b"GPSLatitude" in image.info["xmp"]
    assert any(secret in photo() for secret in SECRETS)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_metadata_is_written_without_position_thumbnail_and_orientation(kind: str, tmp_path: Path) -> None:
    picture = read_picture(photo(kind), metadata=True)
    assert picture.pixels.shape == (32, 16, 3)  # turned upright
    save_png(picture.pixels, tmp_path / "a.png", metadata=picture.metadata)
    written = (tmp_path / "a.png").read_bytes()
    assert not [secret for secret in SECRETS if secret in written]
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        found = image.getexif()
        assert dict(found).keys() == {ExifTags.Base.Make, ExifTags.Base.Artist, ExifTags.IFD.Exif}
        assert found[ExifTags.Base.Make] == "Kodak"
        assert not found.get_ifd(ExifTags.IFD.GPSInfo)
        assert not found.get_ifd(ExifTags.IFD.IFD1)
        details = found.get_ifd(ExifTags.IFD.Exif)
        assert details == {ExifTags.Base.DateTimeOriginal: "2024:05:01 10:00:00", ExifTags.Base.FNumber: 2.8}
        assert b"Ada" in image.info["xmp"]
        assert b"Camera 7" in image.info["xmp"]
    assert np.array_equal(read_picture(tmp_path / "a.png").pixels, picture.pixels)  # not turned again


def test_nothing_is_kept_unless_asked_for(tmp_path: Path) -> None:
    picture = read_picture(photo())
    assert picture.metadata == Metadata()
    save_png(picture.pixels, tmp_path / "a.png", metadata=picture.metadata)
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        assert not image.getexif()
        assert not image.info


def test_photo_without_metadata_has_none() -> None:
    assert photo_metadata(Image.new("RGB", (4, 4))) == Metadata()


def test_tags_of_a_tiff_stay_with_its_file() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(stream, "TIFF", tiffinfo={ExifTags.Base.Artist: "Ada"})
    kept = Image.Exif()
    kept.load(read_picture(stream.getvalue(), metadata=True).metadata.exif)
    assert dict(kept) == {ExifTags.Base.Artist: "Ada"}


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;</x>'


@pytest.mark.parametrize(
    "packet",
    [
        b"", b"no xml", b"<x>", b"\xff\xfe<\0x\0", BOMB.encode(), b"<!--a--><!DOCTYPE x><x/>",
        b"<a>" * 5000 + b"</a>" * 5000, b"<x>" + b"y" * (2 << 20) + b"</x>", b"<gps:x/>",
    ],
)  # fmt: skip
def test_hostile_xmp_is_left_out(packet: bytes) -> None:
    image = Image.new("RGB", (4, 4))
    image.info["xmp"] = packet
    assert photo_metadata(image).xmp == ""


@pytest.mark.parametrize(
    "broken", [b"garbage", b"Exif\0\0II\x2a\0\xff\xff\xff\xff", b"Exif\0\0MM\0\x2a\0\0\0\x08\xff\xff"]
)
def test_broken_exif_is_left_out(broken: bytes) -> None:
    image = Image.new("RGB", (4, 4))
    image.info["exif"] = broken
    assert photo_metadata(image).exif == b""
