"""The page of what bundles give away is what their cards say (P-79, P-82)."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest
from programs import QUICK, TINY, provider

from protocol.verify import inspect_bundle


def _program() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "leakage.py"
    spec = importlib.util.spec_from_file_location("benchmark_leakage", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


leakage = _program()


@pytest.fixture(scope="module")
def home(studio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One training, packed and audited with its critic and without."""
    folder = tmp_path_factory.mktemp("leakage")
    shutil.copytree(studio / "keys", folder / "keys")
    words = ("package", "--dataset", "synthetic", "--limit", "60", "--budget", "10steps", *QUICK, *TINY)
    for name, critic in (("with", "yes"), ("without", "no")):
        done = provider(*words, "--audit", "2s", "--critic", critic, "--out", f"{name}.mdfy", cwd=folder)
        assert done.code == 0, done.err
        if name == "with":
            shutil.copytree(folder / "with.mdfy.run", folder / "without.mdfy.run")
    return folder


def figures(findings: list[dict[str, object]]) -> dict[object, object]:
    return {f["name"]: f["value"] for f in findings}


def test_row_without_critic_is_what_an_audit_without_critic_finds(home: Path) -> None:
    key = home / "keys" / "studio.mdfykey"
    rows = {row["variant"]: row for row in leakage.read(home / "with.mdfy", [key], "from scratch")}
    (other,) = leakage.read(home / "without.mdfy", [key], "from scratch")
    assert list(rows) == ["from scratch", "from scratch, no critic"]
    derived, audited = figures(rows["from scratch, no critic"]["findings"]), figures(other["findings"])
    same = [name for name in audited if str(name).startswith(("AUC", "membership", "control"))]
    assert [derived[name] for name in same] == [audited[name] for name in same]
    assert "AUC, critic" in figures(rows["from scratch"]["findings"])
    assert "AUC, critic" not in derived


def test_page_has_the_figures_of_the_card_and_says_what_was_not_made(home: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    leakage.main([
        f"drawn={home}", "--finished", f"drawn/from scratch={home / 'with.mdfy'}", "--runs", str(tmp_path / "runs"),
        "--key", str(home / "keys" / "studio.mdfykey"), "--photos", "synthetic", "--out", str(page),
        "--variants",
    ])  # fmt: skip
    text = page.read_text()
    audit = inspect_bundle(home / "with.mdfy").manifest.privacy.memorisation_audit
    assert audit is not None
    row = next(line for line in text.splitlines() if line.startswith("| from scratch |"))
    for figure, cell in zip(audit.figures or (), row.strip("| ").split(" | ")[1:], strict=False):
        shown = figure.shown.replace("not measured", "-").replace(" (too weak to tell)", " weak")
        assert shown == cell
    assert "| from scratch | 32 px, 256 | scratch | 45 + 15 | 10steps |" in text
    assert "Not made for drawn: from the base, a quarter of the time" in text
    assert str(tmp_path) not in text


def test_length_of_a_quarter() -> None:
    assert [leakage.quarter(length) for length in ("8kimg", "10m", "500steps")] == ["2kimg", "2.5m", "125steps"]


def test_bundle_without_the_folder_of_its_run_gives_what_its_card_says(home: Path, tmp_path: Path) -> None:
    alone = shutil.copy(home / "with.mdfy", tmp_path / "alone.mdfy")
    key = home / "keys" / "studio.mdfykey"
    (row,) = leakage.read(alone, [key], "given away")
    known = next(leakage.read(home / "with.mdfy", [key], "given away"))
    assert leakage.cells({**row, "kid": None}) == leakage.cells({**known, "kid": None})
    assert leakage.course(row) == ["given away", "32 px, 256", "scratch", "10 to 99 + 10 to 99", "-", "0.0",
                                   *leakage.course(known)[6:8], "-"]  # fmt: skip
