"""The package as a whole: public names, late imports, ``__all__`` (U-31, style guide rule 2)."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import modify_fl


def _modules() -> list[str]:
    return [m.name for m in pkgutil.walk_packages(modify_fl.__path__, "modify_fl.")]


def test_public_names_are_there() -> None:
    assert modify_fl.Style.__module__ == "modify_fl.style"
    assert modify_fl.TrustStore.__module__ == "protocol.trust"
    assert modify_fl.load_images.__module__ == "modify_fl.data"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = modify_fl.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", _modules())
def test_all_is_sorted_and_complete(name: str) -> None:
    """Rule 2: every module names what it exports, in order, and all of it exists."""
    module = importlib.import_module(name)
    exported = list(getattr(module, "__all__", []))
    groups = ([n for n in exported if n.isupper()], [n for n in exported if not n.isupper()])
    assert exported == [*sorted(groups[0]), *sorted(groups[1])]
    own = {
        n for n, value in vars(module).items()
        if not n.startswith("_") and getattr(value, "__module__", None) == name and callable(value)
    }  # fmt: skip
    assert own <= set(exported), f"public but not exported: {sorted(own - set(exported))}"
    assert all(hasattr(module, n) for n in exported)


@pytest.mark.parametrize(
    "name", ["modify_fl", "modify_fl.config", "modify_fl.console", "modify_fl.errors", "modify_fl.datasets"]
)
def test_light_modules_do_not_import_torch(name: str) -> None:
    """U-31: what the command lines import at start is light."""
    code = f"import sys, {name}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
