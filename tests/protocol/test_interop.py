"""The public model_signing tool agrees about an unpacked bundle (section 12 of SPEC.md)."""

import importlib.util
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from bundlekit import ENCODER, STUDIO_KEY

from protocol.signing import public_pem

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("model_signing", "OpenSSL")),
    reason="needs model-signing and pyopenssl (the dev extra)",
)


def tool(folder: Path, key: Path) -> int:
    """Run the foreign verifier; returns its exit code."""
    command = [sys.executable, "-m", "model_signing", "verify", "key", "--public_key", str(key)]
    command += ["--signature", str(folder / "model.sig"), str(folder)]
    return subprocess.run(
        command, check=False, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ).returncode


def test_foreign_verifier_agrees(tmp_path: Path, style_bytes: bytes) -> None:
    folder, key = tmp_path / "d", tmp_path / "p.pem"
    key.write_bytes(public_pem(STUDIO_KEY.public_key()))
    with zipfile.ZipFile(io.BytesIO(style_bytes)) as archive:
        archive.extractall(folder)
    assert tool(folder, key) == 0
    (folder / "extra.txt").write_text("x")
    assert tool(folder, key) == 1
    (folder / "extra.txt").unlink()
    (folder / ENCODER).write_bytes(b"changed")
    assert tool(folder, key) == 1
