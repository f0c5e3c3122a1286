"""Steps 1 and 2 of ``docs/how-to/federate.md``, and the look of step 3, do as typed."""

import shutil
from pathlib import Path

import pytest
from docskit import ROOT, commands
from programs import draw_photos
from sitekit import Party, make_coordinator

from protocol.provider import read_provider_key

_PAGE = ROOT / "docs" / "how-to" / "federate.md"


def typed(*beginning: str) -> list[str]:
    """Return the words after the program of the one command of the page that begins so."""
    (found,) = (command.words for command in commands(_PAGE) if command.words[: len(beginning)] == list(beginning))
    return found[1:]


@pytest.mark.parametrize("private", [True, False])
def test_the_page_is_typed_as_it_stands(private: bool, studio: Path, tmp_path: Path) -> None:
    coordinator = make_coordinator(tmp_path / "coordinator", studio)
    words = typed("style-provider", "federate", "plan")
    planned = coordinator.provider(*(words if private else words[: words.index("--privacy")]))
    assert planned.code == 0, planned.err
    site = Party(path=tmp_path / "anna")
    draw_photos(site.path / "photos", 4)
    shutil.copytree(coordinator.path / "plan" / "kit", site.path / "kit")
    shutil.copy(coordinator.path / "style.mdfy", site.path)
    shutil.copy(coordinator.path / "keys" / "studio.mdfykey", site.path)
    fingerprint = read_provider_key(site.path / "studio.mdfykey").fingerprint
    trust = typed("content-client", "trust", "add", "studio.mdfykey")
    assert site.client(*(fingerprint if word == "SHA256:..." else word for word in trust)).code == 0
    budget = site.client(*typed("content-client", "privacy", "init", "--photos", "photos"))
    assert budget.code == 0, budget.err
    enrolled = site.client(*typed("content-client", "federate", "enroll"))
    assert enrolled.code == (0 if private else 6), enrolled.err
    if not private:
        assert "--allow-unprotected" in enrolled.err
        return
    looked = site.client(*typed("content-client", "federate", "preview"), "--no-align")
    assert looked.code == 0, looked.err
    assert "budget" not in looked.err  # it pays for all rounds
