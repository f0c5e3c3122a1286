"""F-1 to F-4: one version of Flower, silent before it is imported."""

import subprocess
import sys

import pytest

from modify_fl.errors import FederationSetupError
from modify_fl.federated import compat
from modify_fl.federated.environment import FLOWER_ENVIRONMENT


def test_the_installed_flower_is_the_one_this_package_was_written_for() -> None:
    compat.check()  # every name and every parameter (F-3)


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "version", lambda _: "1.42.0")
    with pytest.raises(FederationSetupError, match="not the version") as caught:
        compat.check()
    assert caught.value.exit_code == 12
    assert "1.42.0" in caught.value.why


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (("flwr.app", "Message", "content"), "flwr.app.Message takes"),
        (("flwr.app", "Nobody", ""), "flwr.app.Nobody is gone"),
        (("flwr.nowhere", "Nobody", ""), "flwr.nowhere.Nobody is gone"),
    ],
)
def test_a_name_that_changed_is_refused(row: tuple[str, str, str], why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "_USED", (row,))
    with pytest.raises(FederationSetupError) as caught:
        compat.check()
    assert why in caught.value.why


def _python(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_flower_is_not_imported_without_its_environment() -> None:
    for name in FLOWER_ENVIRONMENT:
        environment = {key: value for key, value in FLOWER_ENVIRONMENT.items() if key != name}
        done = _python("import modify_fl.federated.compat", environment)
        assert done.returncode == 1
        assert name in done.stderr
    early = "import flwr.app, flwr.supercore.telemetry; from modify_fl.federated.environment import set_environment; "
    done = _python(early + "set_environment(); import modify_fl.federated.compat", {})
    assert "telemetry was switched off" in done.stderr


def test_the_rest_of_the_package_does_not_import_flower() -> None:
    code = (
        "import sys, modify_fl.federated.plan, modify_fl.federated.environment; "
        "print([m for m in sys.modules if m.split('.')[0] in ('flwr', 'ray', 'torch')])"
    )
    assert _python(code, {}).stdout.strip() == "[]"
