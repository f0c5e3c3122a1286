"""The program that does the comparisons of the paper on public faces (M-45, M-47)."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from modify_fl.faces.decode import save_png
from modify_fl.synthetic import draw_faces
from tools.train_release import SOURCES, held_out, person


def _program() -> ModuleType:
    """Load it from its file: another package on this machine may be called ``benchmarks`` too."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "table1.py"
    spec = importlib.util.spec_from_file_location("benchmark_table1", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


table1 = _program()

_TINY = tuple(
    word
    for change in (
        "w_dim=16", "z_dim=16", "channel_base=256", "channel_max=16", "enc_base=512", "enc_max=16", "pyramid=16",
        "trunk=16", "remap_width=16", "encapsulation.batch=2", "stylization.batch=2", "test_time_steps=1",
    )
    for word in ("--set", change)
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn faces in the layout of the real ones; two photos of each person of london."""
    root = tmp_path_factory.mktemp("faces")
    names = {
        "style/paintings": [f"painting{i}" for i in range(20)],
        "content/congress": [f"member{i}" for i in range(30)],
        "content/london": [f"london_{mood}_{i}" for i in range(6) for mood in ("neutral", "smiling")],
    }
    for seed, (source, stems) in enumerate(names.items()):
        faces = draw_faces("painting" if "style" in source else "photo", len(stems), 64, seed)
        for stem, face in zip(stems, faces, strict=True):
            save_png(face, root / source / "128" / f"{stem}.png")
    return root


def test_split_is_that_of_the_base(data: Path) -> None:
    """Nothing that the base or any training has seen is measured with, and nobody is measured twice."""
    material = table1.material(data, 100)
    material.check()
    share = {source.rpartition("/")[2]: part for source, part in SOURCES.items()}
    assert all(held_out(name, share["paintings"]) for name in material.reference.names)
    assert not any(held_out(name, share["paintings"]) for name in material.styles.names)
    assert not any(held_out(name, share["congress"]) for name in material.photos.names)
    assert len(material.styles) + len(material.reference) == 20
    for name in material.held_out.names:
        assert held_out(name, share["london" if name.startswith("london") else "congress"])
    people = [person(name) for name in material.held_out.names]
    assert len(set(people)) == len(people)


def test_photos_are_spread_over_both_sources(data: Path) -> None:
    everybody, few = table1.material(data, 100).held_out, table1.material(data, 2).held_out
    assert len(few) == 2
    assert set(few.names) <= set(everybody.names)
    assert few.names[0] == everybody.names[0]
    assert few.names[1] == everybody.names[len(everybody) // 2]


def test_defaults_fit_three_hours() -> None:
    options = table1.read_options(["DATA", "--out", "runs"])
    assert (options.budget, options.adapt_budget) == ("4m", "90s")
    assert table1.planned_minutes(4, 1.5, options.photos, options.seeds) < 180
    # By hand: 3 seeds of 5.3 * 4 + 6 * 1.5 + 48 * 10.5 / 60 + 11 + 3 minutes.
    assert table1.planned_minutes(4, 1.5, 48, 3) == pytest.approx(3 * (21.2 + 9 + 8.4 + 14))


def test_quick_runs_stay_out_of_the_repository() -> None:
    quick, real = (table1.read_options(["DATA", "--out", "runs", *more]) for more in (["--quick"], []))
    assert quick.results == Path("runs/page")
    assert real.results == table1.ROOT / "docs" / "results"
    assert table1.read_options(["DATA", "--out", "runs", "--quick", "--seeds", "2"]).seeds == 2


@pytest.mark.slow
def test_page_is_written_from_what_was_found(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All four comparisons on tiny networks, without measuring networks; the same command again does nothing."""
    words = [
        str(data), "--out", str(tmp_path), "--quick", "--allow-missing", "--threads", "1", "--budget", "4steps",
        "--adapt-budget", "1steps", "--photos", "2", "--styles", "2", "--init", "none", *_TINY,
    ]  # fmt: skip
    assert table1.main(words) == 0, capsys.readouterr().err
    text = (tmp_path / "page" / "table1.md").read_text()
    for title in table1.TITLES.values():
        assert f"## {title}" in text
    assert "python benchmarks/table1.py DATA --out" in text
    assert str(data) not in text
    assert str(tmp_path) not in text
    found = re.search(r"Of (\d+) directions: (\d+) holds, (\d+) within intervals, (\d+) does not hold, (\d+) not", text)
    assert found is not None
    counts = [int(number) for number in found.groups()]
    assert counts[0] == sum(counts[1:])
    assert counts[4] > 0  # no network, no figure
    assert (tmp_path / "page" / "table1.png").is_file()
    units = {path: path.stat().st_mtime_ns for path in (tmp_path / "units").rglob("*")}
    assert table1.main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "units").rglob("*")} == units
