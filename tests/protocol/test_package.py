"""The package as a whole: what it imports, exports, and costs (B-25, B-46, style guide 2 and 25)."""

import ast
import importlib
import json
import pkgutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from bundlekit import ENCODER, GENERATOR, NOW, STUDIO, weights, write_style

import protocol
from protocol.trust import TrustStore
from protocol.verify import verify_bundle

MODULES = [info.name for info in pkgutil.iter_modules(protocol.__path__)]
LAYERS = [line.split()[0] for line in (protocol.__doc__ or "").splitlines() if line.startswith("    ")]


@pytest.mark.parametrize("name", MODULES)
def test_exports_are_sorted_and_there(name: str) -> None:
    module = importlib.import_module(f"protocol.{name}")
    constants = [item for item in module.__all__ if item.isupper()]
    classes = [item for item in module.__all__ if not item.isupper() and item[0].isupper()]
    functions = [item for item in module.__all__ if item[0].islower()]
    assert module.__all__ == sorted(constants) + sorted(classes) + sorted(functions)
    assert all(hasattr(module, item) for item in module.__all__)


def test_layers_are_all_modules() -> None:
    assert sorted(LAYERS) == sorted(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_a_file_imports_only_what_stands_above_it(name: str) -> None:
    tree = ast.parse((Path(protocol.__path__[0]) / f"{name}.py").read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "protocol":
            imported |= {node.module.partition(".")[2]} if "." in node.module else {item.name for item in node.names}
    assert imported <= set(LAYERS[: LAYERS.index(name)])


def child(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_verifier_stands_alone() -> None:
    loaded = child(
        "import sys, json, protocol.publish; print(json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"
    )
    heavy = {"torch", "numpy", "PIL", "flwr", "opacus", "typer", "pyrage", "platformdirs", "zipfile"}
    assert heavy.isdisjoint(json.loads(loaded))


def test_importing_the_verifier_brings_little_along() -> None:
    # B-46, without a clock: modules that the verifier adds to cryptography, which every signature check needs.
    code = """
import sys
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
before = set(sys.modules)
import protocol.verify
print(len([name for name in set(sys.modules) - before if not name.startswith("protocol")]))
"""
    assert int(child(code)) < 60


def test_memory_does_not_grow_with_the_bundle(tmp_path: Path) -> None:
    # B-46: the small and the large bundle differ by 16 MiB, their verification does not.
    peaks = []
    trust = TrustStore.of(STUDIO)
    for values in (1 << 10, 1 << 22):
        path = tmp_path / f"{values}.mdfy"
        members = {ENCODER: weights(), GENERATOR: weights({"const": [values]})}
        write_style(path, members=members)
        del members
        tracemalloc.start()
        verify_bundle(path, trust=trust, now=NOW)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + (4 << 20)
