"""What a photo says about itself, without where it was taken (U-67).

Kept are what a person would call the data of the photo: camera, exposure, time,
author, caption, rights. Left out are positions, the thumbnail, which shows the
unpainted photo, whatever else may hold a picture or a position unseen (maker
notes, long values), and what no longer holds for the pixels: orientation,
size, colour space.

Metadata is written by anybody. Whatever cannot be read is left out, and nothing
here raises.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from xml.dom import minidom

from PIL import ExifTags, Image

__all__ = ["Metadata", "photo_metadata"]

_EXIF_TAGS = frozenset({
    ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software,
    ExifTags.Base.DateTime, ExifTags.Base.Artist, ExifTags.Base.HostComputer, ExifTags.Base.Copyright,
    ExifTags.Base.Rating, ExifTags.Base.RatingPercent, ExifTags.Base.XPTitle, ExifTags.Base.XPComment,
    ExifTags.Base.XPAuthor, ExifTags.Base.XPKeywords, ExifTags.Base.XPSubject,
})  # fmt: skip
_NOT_OF_THE_PHOTO = frozenset({
    ExifTags.Base.MakerNote, ExifTags.Base.ColorSpace, ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight,
    ExifTags.Base.ExifInteroperabilityOffset,
})  # fmt: skip
_POSITION = re.compile(r"gps|latitude|longitude|altitude", re.IGNORECASE)
_NOT_OF_THE_PHOTO_XMP = frozenset({
    "Orientation", "ImageWidth", "ImageLength", "PixelXDimension", "PixelYDimension", "ColorSpace", "Thumbnails",
    "HasExtendedXMP", "ICCProfile",
})  # fmt: skip
_LONGEST_VALUE = 4096  # characters or bytes; longer ones are pictures, maps or logs
_LONGEST_XMP = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What may be written beside the pixels of a result."""

    exif: bytes = b""
    """As a file holds it, from ``Exif`` on; empty if there is none."""
    xmp: str = ""
    """An XMP packet; empty if there is none."""


def photo_metadata(image: Image.Image) -> Metadata:
    """Return the metadata of an open picture that may be kept.

    Args:
        image: As opened, before it is turned or converted.
    """
    return Metadata(exif=_exif(image), xmp=_xmp(image.info.get("xmp")))


def _exif(image: Image.Image) -> bytes:
    try:
        given = image.getexif()
        kept = Image.Exif()
        for tag, value in _short(given).items():
            if tag in _EXIF_TAGS:
                kept[tag] = value
        details = {tag: value for tag, value in _short(given.get_ifd(ExifTags.IFD.Exif)).items() if _holds(tag)}
        if details:
            kept[ExifTags.IFD.Exif] = details
        data = kept.tobytes() if len(kept) else b""
        Image.Exif().load(data)
    except Exception:  # noqa: BLE001 - parsers of metadata raise anything on hostile bytes
        return b""
    return data


def _holds(tag: int) -> bool:
    return tag not in _NOT_OF_THE_PHOTO and not _POSITION.search(ExifTags.TAGS.get(tag, ""))


def _short(values: Mapping[int, object]) -> dict[int, object]:
    return {
        tag: value
        for tag, value in values.items()
        if not isinstance(value, str | bytes | tuple) or len(value) <= _LONGEST_VALUE
    }


def _xmp(packet: bytes | str | None) -> str:
    if not packet or len(packet) > _LONGEST_XMP:
        return ""
    try:
        text = (packet.decode("utf-8") if isinstance(packet, bytes) else packet).rstrip("\0 ")
        if "<!" in text.replace("<!--", ""):
            return ""  # a document type: entities that grow, files that are read
        document = minidom.parseString(text)  # noqa: S318 - no document type, so nothing to expand
        _strip(document)
        return "".join(node.toxml() for node in document.childNodes)
    except Exception:  # noqa: BLE001 - parsers of metadata raise anything on hostile bytes
        return ""


def _strip(parent: minidom.Document | minidom.Element) -> None:
    """Remove what may not be kept below ``parent``."""
    for child in list(parent.childNodes):
        if child.nodeType == minidom.Node.COMMENT_NODE or _unwanted(child.nodeName or "", child.nodeValue):
            parent.removeChild(child)  # type: ignore[type-var]  # stubs know fewer kinds
        elif isinstance(child, minidom.Element):
            for name, value in list(child.attributes.items()):
                if _unwanted(name, value):
                    child.removeAttribute(name)
            _strip(child)


def _unwanted(name: str, value: str | None) -> bool:
    local = name.rpartition(":")[2]
    return local in _NOT_OF_THE_PHOTO_XMP or bool(_POSITION.search(local)) or len(value or "") > _LONGEST_VALUE
