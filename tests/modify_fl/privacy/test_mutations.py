"""Every mutation build of P-62 fails the test that it names; the right build passes it (it is part of this suite)."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mutations import MUTATIONS, Mutation

from modify_fl.data import load_images
from modify_fl.errors import PrivacyBudgetError
from modify_fl.perceptual import PerceptualNets
from tests.modify_fl.privacy.test_release import desk, style  # noqa: F401 - fixtures of the gate's tests

_HOMES = {"test_private": "training"}


def _named(test: str) -> tuple[Any, Callable[..., None], str]:
    """Return module, function and case of ``module.function:case``."""
    place, _, case = test.partition(":")
    module, _, function = place.partition(".")
    home = _HOMES.get(module, "privacy")
    loaded = importlib.import_module(f"tests.modify_fl.{home}.{module}")
    return loaded, getattr(loaded, function), case


def _run(test: str, folder: Path, request: pytest.FixtureRequest) -> None:
    """Call a named test as pytest would, with its case or fixtures."""
    module, function, case = _named(test)
    if case == "desk":
        function(request.getfixturevalue("desk"))
    elif case == "photos":
        function(folder / "photos")
    elif case == "table":
        function(*module.SIGMA[5])
    elif case == "take":
        function(module.take())
    elif case == "run":
        from tests.modify_fl.privacy.test_isolation import real_style

        photos = load_images("synthetic", resolution=32, look="photo", limit=8)
        function(folder, real_style(), photos, PerceptualNets.find(Path("/nowhere")))
    elif case:
        function(case)
    else:
        function()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_a_broken_build_fails_the_test_that_it_names(
    mutation: Mutation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    mutation.apply(monkeypatch)
    with pytest.raises((AssertionError, PrivacyBudgetError, pytest.fail.Exception)):
        _run(mutation.test, tmp_path, request)


@pytest.mark.parametrize("test", sorted({m.test for m in MUTATIONS if ":" in m.test}))
def test_the_right_build_passes_the_same_call(test: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    # Tests without a case run by themselves; these are called with arguments here, which must not be why they fail.
    _run(test, tmp_path, request)


def test_all_builds_of_the_design_are_there() -> None:
    # P-62 lists 23; clipping and sampling have two forms each here.
    assert len(MUTATIONS) == 23 + 2
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
