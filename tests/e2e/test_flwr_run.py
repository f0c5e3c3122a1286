"""`flwr run` on the app's folder, as `docs/how-to/federate.md` has it: its lines are run by a shell, word for word.

Only the numbers are smaller. Flower's SuperLink stays behind, as the page says, and is ended by its own id.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from docskit import ROOT, commands
from programs import QUICK, client, draw_photos

from modify_fl.federated.environment import FLOWER_ENVIRONMENT
from protocol.provider import read_provider_key
from protocol.verify import inspect_bundle

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason='needs Ray: pip install "modify-fl[ray]"'),
]

_PAGE = ROOT / "docs" / "how-to" / "federate.md"
_PORT = 39091
"""Where `flwr` starts a SuperLink of its own, and finds one that is already there."""


@pytest.fixture
def home(studio: Path, tmp_path: Path) -> Iterator[Path]:
    """A user's folder with what the page names; no process of this folder's Flower outlives the test."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", _PORT)) == 0:
            pytest.skip(f"something listens at port {_PORT}, and flwr would take it for its own SuperLink")
    (tmp_path / "paintings.mdfy").write_bytes((studio / "style.mdfy").read_bytes())
    key = studio / "keys" / "studio.mdfykey"
    trusted = client("trust", "add", key, "--fingerprint", read_provider_key(key).fingerprint, cwd=tmp_path)
    assert trusted.code == 0, trusted.err
    for at, name in enumerate(("congress-a", "congress-b", "london")):
        draw_photos(tmp_path / name, 3, first=10 * at)
    yield tmp_path
    for process in _of_flower(tmp_path):
        os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while _of_flower(tmp_path):
        assert time.monotonic() < deadline, "a process of Flower does not end"
        time.sleep(0.2)


def _of_flower(home: Path) -> list[int]:
    """Processes whose ``FLWR_HOME`` is this test's."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"FLWR_HOME={home / 'flower'}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:  # ended meanwhile, or somebody else's
            continue
    return found


def test_the_lines_of_the_page_run_the_app(home: Path) -> None:
    page = [command.text for command in commands(_PAGE)]
    (run,) = (at for at, text in enumerate(page) if text.startswith("flwr run"))
    smaller = " num-server-rounds=2 local-steps=1 align=false"
    lines = [*page[run - 3 : run], f'{page[run].removesuffix(chr(34))}{smaller}"']
    kept = {name: value for name, value in os.environ.items() if name not in FLOWER_ENVIRONMENT}
    path = os.pathsep.join((str(Path(sys.executable).parent), kept["PATH"]))
    done = subprocess.run(
        ["/bin/sh", "-euc", "\n".join(lines)], cwd=home, capture_output=True, text=True, check=False, timeout=900,
        env=kept | {"FLWR_HOME": str(home / "flower"), "PATH": path},
    )  # fmt: skip
    assert "[ROUND 2/2]" in done.stdout + done.stderr, done.stdout + done.stderr
    assert not (home / "flower" / "runtime-envs").exists()  # nothing was downloaded
    _until_written(home / "federated.mdfa.run" / "checkpoints" / "current")

    (sign,) = (text for text in page[run + 1 :] if text.startswith("content-client federate simulate"))
    words = sign.replace("--rounds 10", "--rounds 2").replace("--local-steps 50", "--local-steps 1").split()[1:]
    signed = client(*words, "--no-align", *QUICK, cwd=home)
    assert signed.code == 0, signed.err
    assert "round 1" not in signed.err  # all rounds were there
    manifest = inspect_bundle(home / "federated.mdfa").manifest
    assert manifest.federation is not None
    assert manifest.federation.rounds == 2


def _until_written(pointer: Path) -> None:
    deadline = time.monotonic() + 60
    while not pointer.exists() or int(pointer.read_text()) != 2:
        assert time.monotonic() < deadline, "the last round left no checkpoint"
        time.sleep(0.2)
