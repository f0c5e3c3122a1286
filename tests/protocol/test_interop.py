"""The public model_signing tool agrees about an unpacked bundle, and is less strict (B-15, section 12 of SPEC.md)."""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from attackkit import LENIENT
from bundlekit import NOW, STUDIO, STUDIO_KEY, forge, unpack

from protocol.container import SIGNATURE
from protocol.errors import VerificationError
from protocol.provider import read_provider_key
from protocol.signing import public_pem
from protocol.trust import TrustStore
from protocol.verify import verify_bundle

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


def library(folder: Path, signature: Path, key: Path) -> bool:
    """Ask the foreign verifier inside this process, which saves its imports."""
    from model_signing import verifying

    try:
        verifying.Config().use_elliptic_key_verifier(public_key=key).verify(folder, signature)
    except Exception:  # noqa: BLE001 - it raises many kinds
        return False
    return True


def unpack_with_tools(bundle: Path, folder: Path) -> None:
    """Unpack as a stranger would: with unzip, or with Python's zipfile."""
    if shutil.which("unzip"):
        subprocess.run(["unzip", "-q", str(bundle), "-d", str(folder)], check=True)  # noqa: S607
    else:
        with zipfile.ZipFile(bundle) as archive:
            archive.extractall(folder)


def test_bundle_of_the_program(studio: Path, tmp_path: Path) -> None:
    # Made by style-provider package, unpacked by others, checked by others.
    folder, key = tmp_path / "d", tmp_path / "p.pem"
    key.write_bytes(public_pem(read_provider_key(studio / "keys" / "studio.mdfykey").public_key))
    unpack_with_tools(studio / "style.mdfy", folder)
    assert tool(folder, key) == 0
    assert library(folder, folder / SIGNATURE, key)
    weights = folder / "weights" / "generator.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert tool(folder, key) == 1
    weights.write_bytes(good)
    (folder / "extra.json").write_text("{}")
    assert tool(folder, key) == 1


def write_out(members: dict[str, bytes], folder: Path) -> None:
    for name, data in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "p.pem"
    path.write_bytes(public_pem(STUDIO_KEY.public_key()))
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LENIENT)
def test_what_is_accepted_there_is_refused_here(name: str, tmp_path: Path, style_path: Path, key: Path) -> None:
    # B-15: the reason why a bundle is never checked with the public library.
    edit, code = LENIENT[name]
    changed = forge(style_path, edit, sign=False)
    folder = tmp_path / "d"
    write_out(unpack(changed.read_bytes()), folder)
    signature = (folder / SIGNATURE).rename(tmp_path / SIGNATURE)  # version 0.2 kept it elsewhere
    assert library(folder, signature, key)
    with pytest.raises(VerificationError) as caught:
        verify_bundle(changed, trust=TrustStore.of(STUDIO), now=NOW)
    assert caught.value.code == code
