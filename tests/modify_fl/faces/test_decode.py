"""Picture files of every odd kind (U-60, U-61), resizing (M-49) and writing (U-67)."""

import importlib.util
import io
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile

from modify_fl import faces
from modify_fl.errors import DataError, ShapeError
from modify_fl.faces import decode
from modify_fl.faces.decode import decode_image, fit_square, read_picture, save_png
from protocol.errors import StorageError

HEIGHT, WIDTH = 6, 4


def gradient(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Distinct pixels, so that every wrong turn shows."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 40, columns * 60, 255 - rows * 20 - columns * 20], -1).astype(np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def layers(mode: str, values: np.ndarray) -> Image.Image:
    return Image.merge(mode, [Image.fromarray(np.ascontiguousarray(values[..., i])) for i in range(values.shape[2])])


def test_public_names() -> None:
    assert decode.__all__ == sorted(decode.__all__)
    assert all(hasattr(decode, name) for name in decode.__all__)
    assert faces.__doc__


def test_path_bytes_and_stream_give_the_same_pixels(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(gradient()))
    path = tmp_path / "a.png"
    path.write_bytes(data)
    for source in (path, str(path), data, io.BytesIO(data)):
        pixels = decode_image(source)
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, gradient())


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP"])
def test_lossless_formats_keep_every_pixel(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(decode_image(encoded(Image.fromarray(gradient()), kind, **options)), gradient())


def test_grey_becomes_three_equal_channels() -> None:
    grey = np.arange(24, dtype=np.uint8).reshape(HEIGHT, WIDTH) * 10
    assert np.array_equal(decode_image(encoded(Image.fromarray(grey))), np.repeat(grey[..., None], 3, -1))


def test_one_bit_becomes_black_and_white() -> None:
    bits = np.array([[0, 255], [255, 0]], np.uint8)
    pixels = decode_image(encoded(Image.fromarray(bits).convert("1")))
    assert np.array_equal(pixels[..., 0], bits)


def test_transparency_lies_on_white() -> None:
    # Alpha 0 shows white, 255 the colour, 51 = a fifth of it: 0.2 * 100 + 0.8 * 255 = 224.
    rgba = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [100, 100, 100, 51]]], np.uint8)
    pixels = decode_image(encoded(Image.fromarray(rgba)))
    assert pixels.tolist() == [[[255, 255, 255], [10, 20, 30], [224, 224, 224]]]


def test_grey_with_alpha_lies_on_white() -> None:
    pixels = decode_image(encoded(layers("LA", np.array([[[7, 0], [7, 255]]], np.uint8))))
    assert pixels.tolist() == [[[255] * 3, [7] * 3]]


def test_palette_with_transparent_entry_lies_on_white() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    image.putdata([0, 1, 2])
    pixels = decode_image(encoded(image, transparency=1))
    assert pixels.tolist() == [[[200, 0, 0], [255, 255, 255], [0, 0, 200]]]


def test_colour_key_lies_on_white() -> None:
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    assert decode_image(encoded(image, transparency=(1, 2, 3))).tolist() == [[[255, 255, 255], [4, 5, 6]]]


@pytest.mark.parametrize("method", list(decode._UPRIGHT.values()))
def test_a_turned_colour_key_stays_transparent(method: Image.Transpose) -> None:
    orientation = next(key for key, value in decode._UPRIGHT.items() if value == method)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.array([[[1, 2, 3], [1, 2, 3]]], np.uint8))
    assert (decode_image(encoded(image, transparency=(1, 2, 3), exif=exif)) == 255).all()


def test_cmyk_jpeg() -> None:
    # No ink is white, full black ink is black; JPEG keeps flat colours within a few levels.
    inks = np.zeros((16, 32, 4), np.uint8)
    inks[:, 16:, 3] = 255
    pixels = decode_image(encoded(layers("CMYK", inks), "JPEG", quality=100)).astype(int)
    assert pixels[:, :12].min() > 245
    assert pixels[:, 20:].max() < 10


def test_sixteen_bit_grey() -> None:
    # 65535 is white, 257 * v is the 8-bit level v, and 32768 / 257 = 127.5 rounds to an even 128.
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    assert decode_image(encoded(Image.fromarray(values)))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_sixteen_bit_tiff_that_is_dark_stays_dark() -> None:
    values = np.full((2, 2), 514, np.uint16)
    assert decode_image(encoded(Image.fromarray(values), "TIFF"))[0, 0].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("values", "white"),
    [([0, 128, 255], 255), ([0, 32768, 65535], 65535), ([0, 2**30, 2**31 - 1], 2**31 - 1)],
)
def test_thirty_two_bit_integers_use_the_smallest_scale_that_fits(values: list[int], white: int) -> None:
    image = Image.fromarray(np.array([values], np.int32))
    expected = np.rint(np.array(values) * (255 / white)).astype(int)
    assert decode_image(encoded(image, "TIFF"))[0, :, 0].tolist() == expected.tolist()


@pytest.mark.parametrize(("values", "white"), [([0, 0.5, 1], 1), ([0, 100, 255], 255), ([0, 300, 65535], 65535)])
def test_floats_use_the_smallest_scale_that_fits(values: list[float], white: float) -> None:
    image = Image.fromarray(np.array([values], np.float32))
    expected = np.rint(np.array(values) * (255 / white)).astype(int)
    assert decode_image(encoded(image, "TIFF"))[0, :, 0].tolist() == expected.tolist()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.1])
def test_floats_without_meaning_are_refused(bad: float) -> None:
    image = Image.fromarray(np.array([[0, bad]], np.float32))
    with pytest.raises(DataError, match=r"cannot read x[.]tif") as caught:
        decode_image(encoded(image, "TIFF"), name="x.tif")
    assert caught.value.why == "its values are negative or not finite"


# What the camera stored, for a scene that is ``gradient`` when upright (EXIF 2.32, tag 274).
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda scene: scene,
    2: lambda scene: scene[:, ::-1],
    3: lambda scene: scene[::-1, ::-1],
    4: lambda scene: scene[::-1],
    5: lambda scene: scene.transpose(1, 0, 2),
    6: lambda scene: np.rot90(scene, 1),
    7: lambda scene: scene[::-1, ::-1].transpose(1, 0, 2),
    8: lambda scene: np.rot90(scene, -1),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](gradient())))
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(decode_image(encoded(stored, kind, exif=exif, **options)), gradient())


def test_orientation_of_a_jpeg_is_undone() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = np.zeros((16, 32, 3), np.uint8)
    wide[:, :16] = 255  # left of the sensor is the top of the scene
    pixels = decode_image(encoded(Image.fromarray(wide), "JPEG", exif=exif, quality=100))
    assert pixels.shape == (32, 16, 3)
    # Orientation 6: row 0 of the file is the right side of the scene, so its left end comes to the top.
    assert pixels[:14].min() > 240
    assert pixels[18:].max() < 15


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("exif", [b"garbage", b"Exif\x00\x00garbage", b"MM\x00\x2a\xff\xff\xff\xff", b"II\x2a\x00"])
def test_broken_metadata_does_not_cost_the_picture(exif: bytes, kind: str) -> None:
    data = encoded(Image.new("RGB", (16, 16), (255, 255, 255)), kind, exif=exif)
    assert (decode_image(data) == 255).all()


# Colorants of sRGB, adapted to D50, as lcms and every sRGB profile have them.
RED, GREEN, BLUE = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)


def icc(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Assemble a display profile (ICC.1:2001-04, sections 6.1 and 6.2)."""
    tags = {
        b"desc": b"desc" + bytes(4) + (5).to_bytes(4, "big") + b"test\0" + bytes(78),
        b"wtpt": xyz(0.9642, 1, 0.8249),
        **tags,
    }
    table, data, offset = b"", b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        padded = value + bytes(-len(value) % 4)
        table += name + (offset + len(data)).to_bytes(4, "big") + len(value).to_bytes(4, "big")
        data += padded
    size = (offset + len(data)).to_bytes(4, "big")
    header = size + bytes(4) + bytes.fromhex("02400000") + b"mntr" + space + b"XYZ " + bytes(12) + b"acsp" + bytes(28)
    header += xyz(0.9642, 1, 0.8249)[8:] + bytes(48)
    return header + len(tags).to_bytes(4, "big") + table + data


def xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(round(value * 65536).to_bytes(4, "big") for value in values)


def gamma(exponent: float) -> bytes:
    return b"curv" + bytes(4) + (1).to_bytes(4, "big") + round(exponent * 256).to_bytes(2, "big")


def rgb_profile(red: tuple[float, ...], green: tuple[float, ...], exponent: float = 2.2) -> bytes:
    colours = {b"rXYZ": xyz(*red), b"gXYZ": xyz(*green), b"bXYZ": xyz(*BLUE)}
    return icc(b"RGB ", colours | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma(exponent)))


def test_embedded_profile_is_converted_to_srgb() -> None:
    # A display whose red glows green: its pure red is the green of sRGB.
    image = Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [255, 255, 255]]], np.uint8))
    data = encoded(image, icc_profile=rgb_profile(GREEN, RED))
    pixels = decode_image(data).astype(int)
    assert np.abs(pixels - [[[0, 255, 0], [255, 0, 0], [255, 255, 255]]]).max() <= 3


def test_profile_of_a_transparent_palette_picture_is_converted() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 0])
    image.putdata([0, 1])
    data = encoded(image, transparency=1, icc_profile=rgb_profile(GREEN, RED))
    assert np.abs(decode_image(data).astype(int) - [[[0, 255, 0], [255, 255, 255]]]).max() <= 3


def test_grey_profile_is_converted_to_srgb() -> None:
    # Linear grey: level 55 is 0.2157 of the light; sRGB writes 1.055 * 0.2157 ** (1 / 2.4) - 0.055 = 0.502 as 128.
    image = Image.fromarray(np.array([[0, 55, 255]], np.uint8))
    pixels = decode_image(encoded(image, icc_profile=icc(b"GRAY", {b"kTRC": gamma(1)})))
    assert np.abs(pixels[0, :, 0].astype(int) - [0, 128, 255]).max() <= 2
    assert (pixels == pixels[..., :1]).all()


def test_srgb_profile_changes_no_pixel() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = read_picture(encoded(Image.fromarray(gradient()), icc_profile=profile))
    assert np.array_equal(picture.pixels, gradient())
    assert picture.notes == ()


@pytest.mark.parametrize(
    ("profile", "note"),
    [
        (b"no profile at all", "its colour profile cannot be read and was ignored"),
        (icc(b"GRAY", {b"kTRC": gamma(1)}), "its colour profile does not fit and was ignored"),
        (icc(b"Lab ", {}), "its colour profile does not fit and was ignored"),
    ],
)
def test_useless_profile_is_ignored_and_said(profile: bytes, note: str) -> None:
    picture = read_picture(encoded(Image.fromarray(gradient()), icc_profile=profile))
    assert np.array_equal(picture.pixels, gradient())
    assert picture.notes == (note,)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animation_gives_its_first_frame_and_says_so(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    picture = read_picture(data)
    assert (picture.pixels == [255, 0, 0]).all()
    assert picture.notes == ("only the first of 3 frames was used",)


def test_second_picture_of_a_photo_is_no_animation() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    picture = read_picture(encoded(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    assert picture.pixels[0, 0, 0] > 240
    assert picture.notes == ()


def photo() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    return encoded(Image.fromarray(noise), "JPEG", quality=90)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "the file is empty"),
        (b"this is a letter, not a photo", "it is not JPEG, PNG, WebP, TIFF, BMP or GIF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is not JPEG, PNG, WebP, TIFF, BMP or GIF"),
        (photo()[:2000], "truncated"),
    ],
)
def test_unreadable_files_raise_data_error(data: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    for source in (path, data, io.BytesIO(data)):
        with pytest.raises(DataError, match=r"cannot read photo[.]jpg") as caught:
            decode_image(source, name="photo.jpg")
        assert why in caught.value.why
        assert caught.value.exit_code == 10


def test_error_names_the_file_by_itself(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read missing[.]jpg") as caught:
        decode_image(tmp_path / "missing.jpg")
    assert caught.value.why == "no such file or directory"


def png_header(width: int, height: int) -> bytes:
    """The start of an honest PNG of that size, 1 bit per pixel; its pixels are missing."""
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    chunks = [header, b"IDAT" + zlib.compress(bytes(100))]
    checked = (len(chunk[4:]).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") for chunk in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(checked)


# Above 89.5 megapixels Pillow warns (tests make that an error), above 179 it refuses; our limit lies between.
@pytest.mark.parametrize("side", [10_001, 12_000, 20_000, 60_000])
def test_decompression_bomb_is_refused_before_it_is_decoded(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("the bomb was decoded"))
    with pytest.raises(DataError) as caught:
        decode_image(png_header(side, side), name="bomb.png")
    assert caught.value.why == "it has more than 100 megapixels"


def test_picture_that_pillow_only_warns_of_is_decoded() -> None:
    # 90 megapixels: decoding starts, and fails because the pixels are missing.
    with pytest.raises(DataError) as caught:
        decode_image(png_header(10_000, 9_000), name="large.png")
    assert "truncated" in caught.value.why


def test_pixel_limit_is_exact() -> None:
    data = encoded(Image.fromarray(gradient()))
    assert read_picture(data, max_pixels=HEIGHT * WIDTH).pixels.shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(DataError) as caught:
        read_picture(data, max_pixels=HEIGHT * WIDTH - 1)
    assert caught.value.got == "4 x 6 pixels"
    assert decode.MAX_PIXELS == 100_000_000


@pytest.mark.skipif(importlib.util.find_spec("pillow_heif") is not None, reason="this environment reads HEIC")
def test_heic_names_the_package_that_reads_it() -> None:
    with pytest.raises(DataError) as caught:
        decode_image(b"\0\0\0\x18ftypheic" + bytes(100), name="phone.heic")
    # The lists of what was skipped show the reason alone.
    assert caught.value.why == "it is a HEIC picture: pip install 'modify-fl[heic]', or convert it to JPEG"


@given(st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_damaged_files_raise_nothing_but_data_error(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"]))
    whole = bytearray(encoded(Image.fromarray(gradient(16, 16)), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = read_picture(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    except DataError:
        return
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.shape[2] == 3


def test_square_is_the_central_one() -> None:
    wide = np.zeros((2, 6, 3), np.uint8)
    wide[:, 2:4] = 9
    assert fit_square(wide, 2).tolist() == [[[9] * 3] * 2] * 2
    assert (fit_square(wide.transpose(1, 0, 2), 2) == 9).all()


def test_square_of_the_right_size_is_untouched() -> None:
    assert np.array_equal(fit_square(gradient(8, 8), 8), gradient(8, 8))


def test_resize_is_antialiased_bicubic() -> None:
    # One-pixel stripes average to grey; without antialiasing they would alias to black or white.
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = fit_square(stripes, 8)[1:-1, 1:-1].astype(int)
    assert np.abs(small - 127.5).max() < 12
    # Bicubic overshoots beside an edge, bilinear and box do not: a grey step shows values beyond its levels.
    step = np.full((16, 16, 3), 64, np.uint8)
    step[:, 8:] = 192
    enlarged = fit_square(step, 64)
    assert enlarged.min() < 64
    assert enlarged.max() > 192


def test_png_comes_back_and_holds_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.png"
    save_png(gradient(), path, text={"provenance": "bundle 1, seed 7, ξ 5"})
    with Image.open(path) as image:
        image.load()
        assert image.text == {"provenance": "bundle 1, seed 7, ξ 5"}
        assert set(image.info) == {"provenance"}
        assert not image.getexif()
    assert np.array_equal(decode_image(path), gradient())
    assert [entry.name for entry in path.parent.iterdir()] == ["a.png"]


def test_png_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    save_png(gradient(), path)
    save_png(255 - gradient(), path)
    assert np.array_equal(decode_image(path), 255 - gradient())


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)],
)
def test_only_pixels_are_saved(pixels: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ShapeError) as caught:
        save_png(pixels, tmp_path / "a.png")
    assert caught.value.expected == "uint8 [H, W, 3]"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_kept_beside_the_pixels(mode: str) -> None:
    alpha = np.array([[0, 51, 255, 128]], np.uint8)
    if mode == "P":
        image = Image.new("P", (4, 1))
        image.putpalette(list(range(12)))
        image.putdata([0, 1, 2, 3])
        picture = read_picture(encoded(image, transparency=alpha[0].tobytes()))
    else:
        channels = len(mode) - 1
        picture = read_picture(encoded(layers(mode, np.dstack([np.full((1, 4, channels), 100, np.uint8), alpha]))))
    assert np.array_equal(picture.alpha, alpha)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_opaque_pictures_have_no_transparency(mode: str) -> None:
    assert read_picture(encoded(Image.new(mode, (3, 2), "red"))).alpha is None


def test_transparency_turns_with_its_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[..., 3] = [[0, 50, 100], [150, 200, 250]]
    picture = read_picture(encoded(Image.fromarray(rgba), exif=exif))
    assert picture.alpha.tolist() == [[150, 0], [200, 50], [250, 100]]


def test_transparency_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_TOGETHER", 500)
    rgba = np.random.default_rng(0).integers(0, 256, (40, 30, 4)).astype(np.uint8)
    rgba[:20, :, 3] = [0, 1, 50, 128, 255] * 6
    first = read_picture(encoded(Image.fromarray(rgba)))
    save_png(first.pixels, tmp_path / "a.png", alpha=first.alpha)
    again = read_picture(tmp_path / "a.png")
    assert np.array_equal(again.alpha, rgba[..., 3])
    assert np.abs(again.pixels.astype(int) - first.pixels).max() <= 1  # looks the same on white
    with Image.open(tmp_path / "a.png") as image:
        colours = np.asarray(image)
    # Opaque colours are exact, half transparent ones within the rounding of two levels, hidden ones are white.
    assert np.array_equal(colours[first.alpha == 255], rgba[first.alpha == 255])
    half = (first.alpha > 120) & (first.alpha < 255)
    assert np.abs(colours[half, :3].astype(int) - rgba[half, :3]).max() <= 2
    assert (colours[first.alpha == 0, :3] == 255).all()


@pytest.mark.parametrize("alpha", [np.zeros((6, 5), np.uint8), np.zeros((6, 4), np.float32), np.zeros(24, np.uint8)])
def test_transparency_must_fit(alpha: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="transparency"):
        save_png(gradient(), tmp_path / "a.png", alpha=alpha)
    assert not list(tmp_path.iterdir())


def test_unwritable_place_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        save_png(gradient(), tmp_path / "file" / "a.png")


def test_decoding_and_aligning_do_not_import_torch() -> None:
    modules = "modify_fl.faces.decode, modify_fl.faces.align, modify_fl.synthetic, modify_fl.datasets"
    code = f"import {modules}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
