"""Private details that must not leave the house (B-20, P-81)."""

from base64 import b64encode, encodebytes, urlsafe_b64encode
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from bundlekit import ABS_MAX, MEMBERS, STUDIO, open_trusted, style_manifest, write_style
from safetensors.torch import save

from protocol.errors import PolicyError
from protocol.lint import lint_members, lint_texts

# Found where it is hidden: in a field of the manifest, and in a report.
PRIVATE = {
    "picture file name": ["trained on anna_2019.jpg", "see IMG(1).HEIC"],
    "local path": [
        "from /home/anna/pictures",
        "~/media/x",
        r"C:\\Users\\anna",
        "file:///x",
        r"\\\\nas\\faces",
        "/Volumes/Photos/a",
        "C:/Users/anna/faces",
        "/export/home/anna",
        "on /scratch/faces",
    ],
    "e-mail address": ["ask anna@studio.example.org"],
    "private host name": ["made on gpu-7.lan", "nas.local"],
    "embedded picture": [
        "data:image/jpeg;base64,",
        "iVBORw0KGgoAAAA",
        "x /9j/4AAQ",
        "<svg xmlns",
        "/9j/2wBDAAgG",
        "ffd8ffdb0043",
    ],
    "digest": [sha256(b"face").hexdigest(), "d41d8cd98f00b204e9800998ecf8427e"],
}
CASES = [(kind, text) for kind, texts in PRIVATE.items() for text in texts]


@pytest.mark.parametrize(("kind", "text"), CASES)
def test_private_detail_in_the_manifest(kind: str, text: str) -> None:
    manifest = style_manifest()
    assert manifest.style is not None
    with pytest.raises(PolicyError, match=kind) as caught:
        lint_members(replace(manifest, style=replace(manifest.style, description=text)), {})
    assert caught.value.code == "E_LINT"
    assert caught.value.member == "manifest.json"
    assert "anna" not in str(caught.value)  # the message does not repeat the detail


@pytest.mark.parametrize(("kind", "text"), CASES)
@pytest.mark.parametrize("name", ["report.json", "notes.txt", "notes.md"])
def test_private_detail_in_a_report(tmp_path: Path, kind: str, text: str, name: str) -> None:
    with pytest.raises(PolicyError, match=kind) as caught:
        write_style(tmp_path / "s.mdfy", members={**MEMBERS, name: f'{{"note": "{text}"}}'.encode()})
    assert caught.value.member == name
    assert list(tmp_path.iterdir()) == []


def test_what_belongs_there_passes(tmp_path: Path) -> None:
    # The contact of the provider, public addresses, and digests of fields made for them.
    manifest = style_manifest()
    manifest = replace(
        manifest,
        provider=replace(manifest.provider, url="https://studio.example/data/"),
        licence=replace(manifest.licence, attribution="see https://museum.example/home/open"),
        provenance=replace(manifest.provenance, source_commit="0" * 40, dataset_commitment="1" * 64),
    )
    report = f"{STUDIO.contact} made this from {'0' * 40}, wall time 3.5/4.0 h\n".encode()
    write_style(tmp_path / "s.mdfy", manifest=manifest, members={**MEMBERS, "notes.txt": report})
    open_trusted(tmp_path / "s.mdfy").close()


def test_provider_without_contact_is_linted_too() -> None:
    manifest = style_manifest()
    silent = replace(manifest, provider=replace(manifest.provider, contact=""))
    lint_members(silent, {"notes.txt": b"nothing to see"})
    with pytest.raises(PolicyError):
        lint_members(silent, {"notes.txt": STUDIO.contact.encode()})


def test_texts_are_refused_before_they_are_in_a_manifest() -> None:
    lint_texts({"--name": "Broad strokes", "--allow": ""})
    with pytest.raises(PolicyError) as caught:
        lint_texts({"--name": "Broad strokes", "--allow": "ask me@example.org"})
    assert (caught.value.code, caught.value.member) == ("E_LINT", "--allow")


# Other members than texts, and texts that are no sentences (P-81).

PNG = b"\x89PNG\r\n\x1a\n" + bytes(32)
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(32)
EXIF = b"Exif\x00\x00II*\x00" + bytes(32)
HIDDEN = {
    "png": PNG,
    "jpeg": JPEG,
    "thumbnail": EXIF,
    "webp": b"RIFF\x10\x00\x00\x00WEBPVP8 ",
    "gif": b"GIF89a" + bytes(8),
    "avif": b"\x00\x00\x00 ftypavif\x00\x00\x00\x00avifmif1",
    "tiff": b"II*\x00\x08\x00\x00\x00\n\x00\x00\x01",
    "tiff, the other order": b"MM\x00*\x00\x00\x00\x08\x00\x0b",
    "bmp": b"BM6\x03\x00\x00\x00\x00\x00\x006\x00\x00\x00(\x00\x00\x00",
    "bmp with a palette": b"BM6\x05\x00\x00\x00\x00\x00\x006\x04\x00\x00(\x00\x00\x00",
    "jpeg 2000": b"\x00\x00\x00\x0cjP  \r\n\x87\n\x00\x00\x00\x14ftypjp2 ",
    "jpeg 2000, the stream": b"\xffO\xffQ\x00/\x00\x00\x00\x00\x00\x10",
    "jpeg, its tables first": b"\xff\xd8\xff\xdb\x00C\x00\x08\x06\x06",
    "jpeg, both tables at once": b"\xff\xd8\xff\xdb\x00\x84\x00\x08\x06\x06",
    "jpeg of Adobe": b"\xff\xd8\xff\xee\x00\x0eAdobe\x00d",
    "jpeg with a profile": b"\xff\xd8\xff\xe2\x02\x1cICC_PROFILE\x00\x01",
}


def hiding(data: bytes) -> bytes:
    """Return a safetensors file with ``data`` among its values."""
    return save({"head.weight": torch.frombuffer(bytearray(data.ljust(64, b"\0")), dtype=torch.float32)})


@pytest.mark.parametrize("data", HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize("name", ["weights/encoder.safetensors", "report.json", "notes.md"])
def test_picture_is_found_in_any_member(data: bytes, name: str) -> None:
    content = hiding(data) if name.endswith("safetensors") else b"{" + data
    with pytest.raises(PolicyError, match="picture") as caught:
        lint_members(style_manifest(), {name: content})
    assert (caught.value.code, caught.value.member) == ("E_LINT", name)


def test_picture_is_found_in_the_weights_of_a_bundle(tmp_path: Path) -> None:
    name = "weights/extra.safetensors"
    with pytest.raises(PolicyError, match="picture"):
        write_style(tmp_path / "s.mdfy", members={**MEMBERS, name: hiding(PNG)}, abs_max={**ABS_MAX, name: 1.0})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("local path", b"\0/home/anna/faces"),
        ("local path", b"\0/Users/anna/faces"),
        ("local path", b"\0C:\\Users\\anna"),
        ("local path", b"\0C:/Users/anna"),
        ("local path", b"\0/scratch/anna"),
        ("picture file name", b"\0anna_2019.JPG\0"),
    ],
)
def test_path_or_file_name_is_found_among_weights(kind: str, data: bytes) -> None:
    with pytest.raises(PolicyError, match=kind) as caught:
        lint_members(style_manifest(), {"weights/encoder.safetensors": hiding(data)})
    assert (caught.value.code, caught.value.member) == ("E_LINT", "weights/encoder.safetensors")
    assert "anna" not in str(caught.value)


def test_weights_look_like_no_text() -> None:
    """Two million numbers as networks have them, and as many of any bytes."""
    draws = torch.Generator().manual_seed(0)
    weights = save({"head.weight": torch.randn(2_000_000, generator=draws) * 0.05})
    bytes_ = torch.randint(0, 256, (8_000_000,), generator=draws, dtype=torch.uint8).numpy().tobytes()
    lint_members(style_manifest(), {"a.safetensors": weights, "b.safetensors": bytes_})


@pytest.mark.parametrize("name", ["adam.exp_avg", "optimizer.step", "cpu_rng_state"])
def test_training_state_is_found(name: str) -> None:
    with pytest.raises(PolicyError, match="optimiser"):
        lint_members(style_manifest(), {"weights.safetensors": save({name: torch.zeros(2)})})


@pytest.mark.parametrize("form", [", ", " ", ",\n", "], [", ") (", "e+02, ", "E-1;"])
def test_pixels_as_numbers_are_found_and_curves_are_not(form: str) -> None:
    with pytest.raises(PolicyError, match="table of numbers"):
        lint_members(style_manifest(), {"report.json": form.join(str(n % 256) for n in range(300)).encode() + b" "})
    curve = form.join(f"{n / 7:.4f}" for n in range(100)).encode()
    lint_members(style_manifest(), {"report.json": curve, "long.txt": b"1" * 100_000})


PIXELS = bytes(n * 7 % 256 for n in range(400))


@pytest.mark.parametrize(
    "code",
    [
        b64encode(PIXELS).decode(), urlsafe_b64encode(PIXELS).decode(), PIXELS.hex(), encodebytes(PIXELS).decode(),
        encodebytes(PIXELS).decode().replace("\n", "\\n"), encodebytes(PIXELS).decode().replace("\n", "\r\n"),
    ],
    ids=["base64", "base64 of links", "hexadecimal", "lines", "lines in JSON", "lines of Windows"],
)  # fmt: skip
def test_pixels_as_text_are_found(code: str) -> None:
    with pytest.raises(PolicyError, match="long code"):
        lint_members(style_manifest(), {"report.json": f'{{"first": "{code}"}}'.encode()})


def test_keys_signatures_and_long_lines_are_no_pixels() -> None:
    pem = f"-----BEGIN PUBLIC KEY-----\n{b64encode(PIXELS[:44]).decode()}\n-----END PUBLIC KEY-----\n"
    signature, rule, word = b64encode(PIXELS[:64]).decode(), "-" * 1000, "z" * 4000
    lint_members(style_manifest(), {"notes.md": "\n".join((pem, signature, rule, word, "word " * 500)).encode()})
