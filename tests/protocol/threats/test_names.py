"""Zip slip, absolute, drive, reserved, right-to-left or look-alike names (B-4)."""

from collections.abc import Callable

import pytest
from attackkit import foreign_zip


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.json",
        "weights/../../evil.json",
        "/etc/evil.json",
        "//host/share/evil.json",
        "c:\\evil.json",
        "c:evil.json",
        "..\\evil.json",
        "con.json",
        "weights/nul.json",
        "com1.tar.json",
        "~/evil.json",
        ".hidden.json",
        "a/b/c/d.json",
        "evil .json",
        "\u202enosj.json",
        "m\u0430nifest.json",
        "\uff4danifest.json",
        "x" * 96 + ".json",
    ],
)
def test_names_that_escape_or_deceive(refused: Callable[..., str], name: str) -> None:
    assert refused(foreign_zip((name, b"{}"))) == "E_MEMBER_NAME"


def test_name_that_is_file_and_folder(refused: Callable[..., str]) -> None:
    assert refused(foreign_zip(("a.json", b"{}"), ("a.json/b.json", b"{}"))) == "E_MEMBER_NAME"


def test_directory_entry(refused: Callable[..., str]) -> None:
    assert refused(foreign_zip(("weights/", b""))) == "E_MEMBER_NAME"
