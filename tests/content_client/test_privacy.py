"""``content-client privacy``: a budget is set, shown, raised, never exceeded in silence (P-46, P-48, P-53, P-54)."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from programs import Result, client
from vaultkit import charge, put_photos

from modify_fl.privacy.ledger import Vault
from modify_fl.privacy.places import vaults_folder

EPSILON = re.compile(r"epsilon [0-9.]++(?! at delta \S+, unit (image|person))")


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    put_photos(tmp_path / "photos")
    return tmp_path


def init(desk: Path, *more: str) -> Result:
    made = client("privacy", "init", "--photos", "photos", *more, cwd=desk)
    assert made.code == 0, made.err
    return made


def test_init_sets_the_defaults_of_the_design_once(desk: Path) -> None:
    made = init(desk, "--json").json["result"]
    assert made["budget"] == {"epsilon": 8.0, "delta": 1e-5, "unit": "image"}
    assert (made["order"], made["marked"], made["share_left"]) == (3.7, True, 1.0)
    again = client("privacy", "init", "--photos", "photos", "--epsilon", "20", cwd=desk)
    assert again.code == 11
    assert "a budget is set once" in again.err
    assert "privacy budget --raise-to" in again.err


def test_status_shows_each_epsilon_with_delta_and_unit(desk: Path) -> None:
    init(desk)
    with Vault.open(desk / "photos") as vault:
        charge(vault, 100, run="winter")
        vault.record_release(release="r-1", run="winter")
        vault.record_release(release="r-2", reason="a present")
    shown = client("privacy", "status", "--photos", "photos", cwd=desk)
    assert shown.code == 0
    assert not EPSILON.search(shown.out)
    assert "spent     epsilon 3.38 at delta 1e-05, unit image" in shown.out  # 3.3735, never rounded down
    for text in ("run       winter: 100 steps", "released  r-1", "r-2", "WITHOUT privacy: a present", "left "):
        assert text in shown.out
    result = client("privacy", "status", "--photos", "photos", "--json", cwd=desk).json["result"]
    assert result["spent"]["epsilon"] == pytest.approx(3.37, abs=0.01)
    assert (result["spent"]["delta"], result["spent"]["unit"]) == (1e-5, "image")
    assert result["runs"][0]["steps"] == 100
    assert [item["unprotected"] for item in result["releases"]] == [None, "a present"]


def test_all_vaults_are_listed(desk: Path) -> None:
    assert "no vaults" in client("privacy", "status", "--all", cwd=desk).out
    init(desk)
    put_photos(desk / "second", first=50)
    assert client("privacy", "init", "--photos", "second", "--unit", "person", cwd=desk).code == 0
    listed = client("privacy", "status", "--all", "--json", cwd=desk).json["result"]["vaults"]
    assert sorted(Path(row["photos"]).name for row in listed) == ["photos", "second"]
    assert {row["unit"] for row in listed} == {"image", "person"}


def test_photos_in_two_vaults_are_warned_of(desk: Path) -> None:
    init(desk)
    put_photos(desk / "copy")
    warned = client("privacy", "init", "--photos", "copy", cwd=desk)
    assert warned.code == 0
    assert "3 of these photos are in the vault" in warned.err
    for command in ("status", "statement"):
        assert "3 of these photos are in the vault" in client("privacy", command, "--photos", "photos", cwd=desk).err


def test_budget_is_raised_with_a_reason(desk: Path) -> None:
    init(desk)
    raised = client(
        "privacy", "budget", "--photos", "photos", "--raise-to", "12", "--reason", "show", "--json", cwd=desk
    )
    assert raised.json["result"]["budget"]["epsilon"] == 12
    lower = client("privacy", "budget", "--photos", "photos", "--raise-to", "9", "--reason", "x", cwd=desk)
    assert lower.code == 2
    assert "can only rise" in lower.err
    assert client("privacy", "budget", "--photos", "photos", "--raise-to", "9", cwd=desk).code == 2


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("init", "--photos", "nowhere"), 10, "there is no folder"),
        (("init", "--photos", "photos", "--unit", "client"), 2, "no unit is called client"),
        (("init", "--photos", "photos", "--epsilon", "-1"), 2, "no budget"),
        (("init", "--photos", "photos", "--delta", "0.4"), 11, "delta must be below"),
        (("status", "--photos", "photos"), 11, "has no vault"),
        (("budget", "--photos", "photos", "--raise-to", "9", "--reason", "x"), 11, "has no vault"),
    ],
)
def test_mistakes_get_a_sentence_and_leave_nothing(desk: Path, words: tuple[str, ...], code: int, text: str) -> None:
    done = client("privacy", *words, cwd=desk)
    assert (done.code, text in done.err) == (code, True), done.err
    assert "Traceback" not in done.err
    assert not list(vaults_folder().glob("*/"))
    assert len(list((desk / "photos").iterdir())) == 3


def test_a_damaged_ledger_is_refused_by_every_command(desk: Path) -> None:
    ledger = Path(init(desk, "--json").json["result"]["ledger"])
    ledger.write_bytes(ledger.read_bytes()[:-1])
    for words in (("status",), ("budget", "--raise-to", "9", "--reason", "x"), ("estimate", "--n", "2000")):
        done = client("privacy", *words, "--photos", "photos", cwd=desk)
        assert done.code == 11, words
        assert "cannot be relied on: its last line is cut short" in done.err


# Estimate -------------------------------------------------------------------------------


def estimate(desk: Path, *words: str) -> Result:
    return client("privacy", "estimate", "--no-prv", *words, cwd=desk)


def test_estimate_gives_the_figures_of_the_design(desk: Path) -> None:
    """P-54: n 2000, B0 256, epsilon 8, d = 20 k: sigma 2.01, signal to noise 20.2."""
    done = estimate(desk, "--n", "2000", "--parameters", "20000", "--json")
    assert done.code == 0, done.err
    result = done.json["result"]
    assert round(result["noise_multiplier"], 2) == 2.01
    assert round(result["signal_to_noise"], 1) == 20.2
    assert result["noise_norm"] == pytest.approx(result["noise_multiplier"] * 20000**0.5 / 256)
    assert 7.9 < result["epsilon"]["rdp"] <= 8.0
    assert (result["epsilon"]["prv"], result["delta"], result["unit"]) == (None, 1e-5, "image")
    assert list(vaults_folder().glob("*")) == []


def test_estimate_counts_the_parameters_of_the_part(desk: Path) -> None:
    sizes = [
        estimate(desk, "--n", "5000", "--subset", part, "--accept-low-utility", "--json").json["result"]["parameters"]
        for part in ("lora", "heads", "all")
    ]
    assert sizes == [16384, 328960, 2725696]


def test_estimate_says_what_is_doubtful_and_stops_where_noise_drowns_the_signal(desk: Path) -> None:
    few = estimate(desk, "--n", "400", "--batch", "200", "--parameters", "20000")
    assert few.code == 0
    assert "400 photos are few" in few.err
    assert "below 5 little is learnt" in few.err
    hopeless = ("--n", "40", "--batch", "40", "--epsilon", "1", "--parameters", "20000")
    stopped = estimate(desk, *hopeless)
    assert stopped.code == 11
    assert "use --mode test-time" in stopped.err
    assert "signal to noise" in stopped.out
    assert estimate(desk, *hopeless, "--accept-low-utility").code == 0


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--n", "100", "--batch", "200"), 2, "larger than the number of photos"),
        (("--n", "2000", "--delta", "0.001"), 11, "delta must be below 1 / n"),
        (("--n", "2000", "--epsilon", "0"), 2, "must be above 0"),
        (("--n", "2000", "--subset", "critic"), 2, "no part is called critic"),
        (("--n", "2000", "--preset", "paper-2048"), 2, "no preset is called"),
        ((), 2, "--n"),
    ],
)
def test_estimates_that_make_no_sense_are_refused(desk: Path, words: tuple[str, ...], code: int, text: str) -> None:
    done = estimate(desk, *words)
    assert (done.code, text in done.err) == (code, True), done.err


def test_estimate_compares_with_what_is_left_of_a_vault(desk: Path) -> None:
    init(desk)
    fresh = estimate(desk, "--n", "2000", "--photos", "photos", "--json").json["result"]["budget"]
    assert fresh["fits"]
    assert fresh["left"] == 1
    with Vault.open(desk / "photos") as vault:
        charge(vault, 100)
    before = (desk / "photos" / ".modify-vault.json").read_bytes()
    done = estimate(desk, "--n", "2000", "--photos", "photos", "--json")
    budget = done.json["result"]["budget"]
    assert not budget["fits"]
    assert budget["left"] == pytest.approx(0.8, abs=0.1)
    assert any("does not fit" in warning for warning in done.json["warnings"])
    assert (desk / "photos" / ".modify-vault.json").read_bytes() == before


def test_status_answers_without_torch(desk: Path) -> None:
    """U-31: looking at a ledger needs arithmetic only."""
    init(desk)
    code = (
        "import sys; from content_client.cli.app import app; from modify_fl.console import run_program\n"
        "code = run_program(app, 'content-client', sys.argv[1:])\n"
        "sys.exit(code or sorted({'torch', 'opacus', 'scipy', 'numpy'} & set(sys.modules)) or 0)"
    )
    words = ("privacy", "status", "--photos", "photos", "--json")
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=desk, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["ok"]


# Statement ----------------------------------------------------------------------------------


def test_statement_is_one_sentence_or_says_that_there_is_no_guarantee(desk: Path) -> None:
    init(desk)
    none = client("privacy", "statement", "--photos", "photos", cwd=desk)
    assert (none.code, none.out.startswith("guarantee: none (no run")) == (0, True)
    with Vault.open(desk / "photos") as vault:
        charge(vault, 100)
    said = client("privacy", "statement", "--photos", "photos", cwd=desk).out
    assert said.startswith(
        "Every encoder update that left this client, together, is (3.3735, 1e-05)-DP under add/remove"
    )
    result = client("privacy", "statement", "--photos", "photos", "--json", cwd=desk).json["result"]
    assert result["sentence"] + "\n" == said
    assert result["mechanisms"] == [
        {"sampling_rate": 0.128, "noise_multiplier": 2.0, "max_grad_norm": 1.0, "steps": 100}
    ]
    assert (result["epsilon"], result["delta"], result["unit"], result["n_is_public"]) == (3.3735, 1e-5, "image", False)
