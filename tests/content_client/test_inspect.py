"""``content-client inspect`` and ``verify`` (U-20, U-45, B-25, B-44)."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import client

from content_client.cli.app import main as client_main
from protocol.manifest import Usage
from style_provider.cli.app import main as provider_main


def test_names_of_a_provider_are_marked_until_it_is_accepted(studio: Path, desk: Path, tmp_path: Path) -> None:
    checked = client("inspect", "style.mdfy", "--json", cwd=desk).json["result"]
    assert (checked["verified"], checked["signer"]) == (True, "Studio")
    assert client("trust", "remove", "Studio", cwd=desk).code == 0
    unknown = client("inspect", "style.mdfy", cwd=desk)
    assert unknown.code == 0
    assert all(line.startswith("unverified  ") for line in unknown.out.splitlines())
    assert "nothing of this is verified: signer not pinned" in unknown.err


def test_the_users_own_name_for_a_provider_wins(studio: Path, tmp_path: Path) -> None:
    from protocol.provider import read_provider_key

    key = studio / "keys" / "studio.mdfykey"
    words = ("--fingerprint", read_provider_key(key).fingerprint, "--label", "my painter")
    assert client("trust", "add", key, *words, cwd=tmp_path).code == 0
    shown = client("inspect", studio / "style.mdfy", cwd=tmp_path).out
    assert "my painter" in shown
    assert "Studio" not in shown
    assert client("verify", studio / "style.mdfy", "--json", cwd=tmp_path).json["result"]["signer"] == "my painter"


@pytest.mark.parametrize("main", [client_main, provider_main])
def test_programs_read_the_words_of_the_process(main: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["program", "inspect", "missing.mdfy"])
    assert main() == 9  # type: ignore[operator]


def test_card_in_other_forms(desk: Path) -> None:
    card = client("inspect", "style.mdfy", "--format", "hf-card", cwd=desk)
    assert card.out.startswith("---\nlicense: ")
    assert "## Privacy" in card.out
    assert "unverified" not in card.out
    shown = json.loads(client("inspect", "style.mdfy", "--format", "json", cwd=desk).out)
    assert shown["verified"]
    assert shown["manifest"]["kind"] == "style-bundle"
    assert client("inspect", "style.mdfy", "--format", "pdf", cwd=desk).code == 2


def test_other_forms_say_that_nothing_is_verified(studio: Path, tmp_path: Path) -> None:
    card = client("inspect", studio / "style.mdfy", "--format", "hf-card", cwd=tmp_path)
    assert card.out.startswith("---\nlicense: ")
    assert "\n---\n\n> unverified: " in card.out
    shown = client("inspect", studio / "style.mdfy", "--format", "json", cwd=tmp_path)
    assert not json.loads(shown.out)["verified"]
    for said in (card.err, shown.err):
        assert "nothing of this is verified: signer not pinned" in said


def test_conditions_are_on_the_card(desk: Path, publish: Callable[..., str]) -> None:
    usage = Usage(audience=("age1x", "age1y"), requires_acknowledgement=True)
    publish(desk / "c.mdfy", usage, supersedes="0" * 64)
    card = client("inspect", "c.mdfy", cwd=desk).out
    assert "2 recipients named by the provider, nobody else" in card
    assert "age1x" not in card
    assert "--accept-terms" in card
    assert "0" * 64 in card
