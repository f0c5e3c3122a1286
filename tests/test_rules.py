"""Rules and code point at each other: cited numbers exist, promised tests exist."""

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("protocol", "modify_fl", "style_provider", "content_client", "examples", "benchmarks", "tests")
_HOMES = {
    "M": "docs/design/method.md",
    "P": "docs/design/privacy.md",
    "F": "docs/design/federation.md",
    "U": "docs/design/users.md",
    "B": "protocol/SPEC.md",
}


def _sources() -> list[Path]:
    return [path for package in _PACKAGES for path in sorted((_ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("letter", sorted(_HOMES))
def test_every_cited_rule_can_be_looked_up(letter: str) -> None:
    """Whoever meets "M-27" in the code finds it in the repository."""
    text = (_ROOT / _HOMES[letter]).read_text(encoding="utf-8")
    known = set(re.findall(rf"\b{letter}-(\d+)\b", text))
    known |= {"256"} if letter == "P" else set()  # the curve P-256 is no rule
    cited = {
        (number, path.relative_to(_ROOT).as_posix())
        for path in _sources()
        for number in re.findall(rf"\b{letter}-(\d+)\b", path.read_text(encoding="utf-8"))
    }
    assert {pair for pair in cited if pair[0] not in known} == set()


def test_rows_of_the_paper_versus_code_table_are_pinned() -> None:
    """Section 8 of method.md names a test for each row; each of them exists."""
    method = (_ROOT / _HOMES["M"]).read_text(encoding="utf-8")
    table = method.split("## 8.")[1].split("## 9.")[0]
    promised = set(re.findall(r"`(test_[a-z0-9_]+)`", table))
    assert len(promised) >= 13
    written = {n for path in _sources() for n in re.findall(r"def (test_\w+)\(", path.read_text(encoding="utf-8"))}
    assert promised - written == set()
