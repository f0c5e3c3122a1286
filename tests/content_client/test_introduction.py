"""What protects the style images is said before a bundle is used for the first time (P-84)."""

from pathlib import Path

from programs import QUICK, client

from protocol.verify import inspect_bundle


def test_statement_is_shown_before_the_first_use_and_not_again(desk: Path) -> None:
    statement = inspect_bundle(desk / "style.mdfy").manifest.privacy.statement
    words = ("stylize", "--no-align", "--bundle", "style.mdfy", "photos", "--threads", "1")
    first = client(*words, "--out", "first", cwd=desk)
    assert first.code == 0, first.err
    assert f"first use of synthetic: {statement}" in first.err
    assert "without differential privacy" in statement
    again = client(*words, "--out", "again", cwd=desk)
    assert again.code == 0, again.err
    assert "first use" not in again.err


def test_a_trial_run_is_no_use(desk: Path) -> None:
    """A dry run of ``adapt`` leaves no trace, so the next one is still the first (U-34)."""
    words = ("adapt", "--no-align", "--bundle", "style.mdfy", "--photos", "photos", "--budget", "1steps", *QUICK)
    for dry in (True, False):
        done = client(*words, *(["--dry-run"] if dry else []), cwd=desk)
        assert done.code == 0, done.err
        assert "first use of" in done.err
