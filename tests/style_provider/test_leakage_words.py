"""What is said of leakage in README and docs is what the code does and the card says (P-4, P-79, P-82, P-84)."""

import dataclasses
import re
from pathlib import Path

import pytest

from modify_fl.metrics.separation import WEAK, chance_half_width
from protocol.manifest import DpStatement, LeakageFigure, MemorisationAudit, privacy_statement
from style_provider.cli.package import _with_critic
from style_provider.holdout import usual_count
from style_provider.leakage.findings import HEADLINES, Finding
from style_provider.leakage.limits import LIMITS, MITIGATIONS, judge
from style_provider.leakage.material import Strength

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = (ROOT / "docs" / "leakage.md").read_text(encoding="utf-8")
NO_DP = DpStatement(applied=False)


def audited(**changes: object) -> MemorisationAudit:
    fields: dict[str, object] = {
        "status": "passed", "critic_shipped": False, "date": "2026-01-31", "tool_version": "modify-fl 0.1.0",
        "report": "reports/leakage.json", "methods": ("inversion",), "held_out": "100 to 299",
        "figures": (LeakageFigure(name="copy rate", value=0.01, shown="1.0%"),), "not_measured": (), "loosened": (),
    }  # fmt: skip
    return MemorisationAudit(**(fields | changes))  # type: ignore[arg-type]


def words(text: str) -> str:
    return " ".join(text.replace("**", "").split())


def _number(cell: str) -> float:
    if cell == "never":
        return float("inf")
    return float(cell.removesuffix(" %")) / 100 if cell.endswith("%") else float(cell)


def test_limits_of_the_docs_are_those_in_force() -> None:
    table = DOCS.split("## Limits")[1].split("##")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    ]
    written = {row[0]: tuple(map(_number, row[1:])) for row in rows[2:] if not row[0].startswith("not measured")}
    names = {name.removeprefix("membership ") if "TPR" in name else name: name for name in LIMITS}
    assert {names[name]: values for name, values in written.items()} == {
        name: (limit.warn, limit.confidential, limit.licensed) for name, limit in LIMITS.items()
    }
    assert rows[-1] == ["not measured, or too weak", "warned", "refused", "warned"]


def test_attacks_of_the_docs_are_the_figures_of_the_card() -> None:
    for name in HEADLINES:
        assert f"| {name.removeprefix('membership ') if 'TPR' in name else name} |" in DOCS


def test_mitigations_stand_in_one_order() -> None:
    advice = DOCS.split("What to do about a refusal")[1]
    options = [match for words in MITIGATIONS for match in re.findall(r"\((--\S+(?: \S+)?)", words)]
    places = [advice.index(option.split(" or ")[0].rstrip(")")) for option in options]
    assert places == sorted(places)
    assert len(options) >= 5


def test_sets_too_small_to_be_cleared_are_those_of_the_docs() -> None:
    """P-78: completion compares 72 of each side, membership all, a copy rate needs 59 held-out images."""
    most = Strength().compared

    def cleared(total: int, held: int) -> bool:
        completion = chance_half_width(min(most, total - held), min(most, held))
        return max(completion, chance_half_width(total - held, held)) <= WEAK and held >= 59

    few, half = (int(number) for number in re.findall(r"Fewer than (\d+) images.*enough from (\d+)", words(DOCS))[0])
    assert few == next(total for total in range(20, 999) if cleared(total, usual_count(total)))
    assert all(cleared(total, total // 2) for total in range(half, few))


def test_readme_claims_no_more_than_the_card() -> None:
    """The card says attacks, not a bound, and so does who points to it; nobody says that images are safe (P-4)."""
    statement = privacy_statement("style-bundle", NO_DP, audited())
    sentence = "attacks that were tried, not a bound"
    assert sentence in statement
    assert sentence in words(README)
    assert sentence in words(DOCS)
    assert "can contain recognisable traces" in statement
    assert "can contain recognisable traces" in words(README)
    for text in (README, DOCS):
        assert not re.search(
            r"cannot be (recovered|reconstructed|extracted)|no leakage|leak(s)? nothing", text, re.IGNORECASE
        )


def test_who_holds_the_critic_is_what_package_does() -> None:
    assert "unless the bundle leaves it out: `--critic no`, as for confidential pictures" in README
    assert not _with_critic(None, "confidential")
    assert _with_critic(None, "licensed")
    assert _with_critic(None, "public")
    assert _with_critic("yes", "confidential")
    for shipped, said in ((True, "The critic is in the bundle."), (False, "The critic is not in the bundle.")):
        assert said in privacy_statement("style-bundle", NO_DP, audited(critic_shipped=shipped))


def _row(item: str) -> list[str]:
    table = README.split("## Who holds what, who sees what")[1].split("## ")[0]
    return next(line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith(f"| {item}"))


def test_who_sees_style_pictures_is_what_the_card_says() -> None:
    """P-4: not needed is not the same as not there; raw scores and names stay, figures and a band are signed."""
    statement = privacy_statement("style-bundle", NO_DP, audited())
    assert "can contain recognisable traces of them" in statement
    assert _row("style pictures")[1:] == ["holds", "never sees; the bundle can contain recognisable traces of them"]
    held, client = _row("which style pictures were held out, scores of the audit")[1:]
    assert held == "holds, in the run's folder"
    assert client.startswith("never sees; figures are in the privacy card, and who has all the pictures can work out")
    signed = {field.name for field in dataclasses.fields(MemorisationAudit)}
    assert {"figures", "held_out"} <= signed
    assert not {"scores", "names", "digests", "distances"} & signed


def test_readme_says_what_is_refused() -> None:
    said = "It refuses bundles of confidential pictures above its limits, or not measured, and leaves their critic out"
    assert said in words(README)
    for name, limit in LIMITS.items():
        above = [Finding(name=name, value=limit.confidential + 1)]
        assert any(name in sentence for sentence in judge(above, "confidential").refusals)
        assert judge(above, "public").status == "warned"
    assert judge((), "confidential").status == "refused"
    assert judge((), "licensed").status == "warned"


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        ("passed", None, "Within the provider's limits."),
        ("warned", None, "Within, with warnings, the provider's limits."),
        ("accepted", "agreed", "Above the provider's limits, handed out for this reason: agreed"),
    ],
)
def test_statement_says_the_verdict(status: str, reason: str | None, said: str) -> None:
    statement = privacy_statement("style-bundle", NO_DP, audited(status=status, reason=reason))
    assert statement.endswith(said)
    assert "Measured on 2026-01-31: copy rate 1.0%." in statement
