"""Pickle and other types; an extra, missing or altered member (B-5, steps 8 and 11)."""

from collections.abc import Callable
from pathlib import Path

import pytest
from attackkit import Edit, foreign_zip
from bundlekit import ENCODER, GENERATOR, forge, weights


@pytest.mark.parametrize("name", ["weights.pkl", "weights.pt", "setup.py", "preview.png", "run", "other.sig"])
def test_pickles_code_and_pictures(refused: Callable[..., str], name: str) -> None:
    assert refused(foreign_zip((name, b"x"))) == "E_MEMBER_TYPE"


def swap(members: dict[str, bytes]) -> None:
    members[ENCODER], members[GENERATOR] = members[GENERATOR], members[ENCODER]


def same_size(members: dict[str, bytes]) -> None:
    members[ENCODER] = weights(value=0.25)


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda members: members.update({"extra.json": b"{}"}), "E_UNSIGNED_MEMBER"),
        (lambda members: members.pop("model-card.md"), "E_MISSING_MEMBER"),
        (lambda members: members.pop("manifest.json"), "E_MISSING_MEMBER"),
        (lambda members: members.update({"model-card.md": b"free for all"}), "E_DIGEST"),
        (swap, "E_DIGEST"),
        (same_size, "E_DIGEST"),
    ],
)
def test_extra_missing_or_altered_member(refused: Callable[..., str], style_path: Path, edit: Edit, code: str) -> None:
    assert refused(forge(style_path, edit, sign=False).read_bytes()) == code


def test_altered_member_with_the_signed_crc(refused: Callable[..., str], style_bytes: bytes) -> None:
    # B-12: the header still says the signed CRC, so only the digest can tell.
    position = style_bytes.index(weights()) + len(weights()) - 1
    broken = bytearray(style_bytes)
    broken[position] ^= 1
    assert refused(bytes(broken)) == "E_DIGEST"
