"""What signing, verifying and encrypting a bundle cost, beside reading and hashing it once (B-46).

    python benchmarks/bundles.py [--table] [--megabytes 120] [--runs 7] [--folder DIR]

All operations of a round follow each other in one process, and every figure is
the median of several rounds, divided by the base of the same rounds: SHA-256
over the file, with its reading. Ratios of one run can be compared, milliseconds
of two machines cannot. ``--table`` prints Markdown.
"""

import argparse
import hashlib
import json
import os
import platform
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import numpy as np

from protocol.encryption import Identity, encrypt_stream, generate_identity
from protocol.manifest import (
    BundleInfo,
    DpStatement,
    Licence,
    Losses,
    LossNet,
    Manifest,
    ModelInfo,
    PrivacyCard,
    Provenance,
    StyleInfo,
    Training,
    TrainingData,
    Usage,
    privacy_statement,
)
from protocol.provider import ProviderKey, issue_provider_key, write_provider_key
from protocol.publish import write_bundle
from protocol.signing import PrivateKey, generate_key, public_pem
from protocol.trust import TrustStore
from protocol.verify import open_bundle, verify_bundle

MEGA = 1_000_000
SPLIT = {"discriminator": 0.3, "encoder": 0.2, "generator": 0.5}
MEASURE_PEAK = r"""
import re, sys
from datetime import UTC, datetime
from pathlib import Path
from protocol.provider import read_provider_key
from protocol.trust import TrustStore
from protocol.verify import verify_bundle
verify_bundle(Path(sys.argv[1]), trust=TrustStore.of(read_provider_key(Path(sys.argv[2]))), now=datetime.now(UTC))
print(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
"""
"""Prints kilobytes; what ``getrusage`` tells would be that of the parent, if that is larger."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One row of the table."""

    operation: str
    goal: str
    measured: str
    reached: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Studio:
    """A provider, and a folder to work in."""

    folder: Path
    key: PrivateKey
    provider: ProviderKey
    now: datetime

    def members(self, size: int) -> dict[str, bytes]:
        """Return random weights of ``size`` bytes in all, float32, in three files."""
        rng, members = np.random.default_rng(0), {}
        for name, share in SPLIT.items():
            data = rng.random(int(size * share) // 4, dtype=np.float32).tobytes()
            table = {f"{name}.weight": {"dtype": "F32", "shape": [len(data) // 4], "data_offsets": [0, len(data)]}}
            header = json.dumps(table).encode()
            members[f"weights/{name}.safetensors"] = struct.pack("<Q", len(header)) + header + data
        return members

    def pack(self, path: Path, members: dict[str, bytes]) -> None:
        """Write a bundle, over an older one if need be."""
        write_bundle(
            path, manifest=self.manifest(), members=members, abs_max=dict.fromkeys(members, 1.0), key=self.key,
            provider=self.provider, overwrite=True,
        )  # fmt: skip

    def manifest(self) -> Manifest:
        """Return what the bundle says; nothing of it matters here."""
        net, dp = LossNet(name="none"), DpStatement(applied=False)
        return Manifest(
            kind="style-bundle",
            bundle=BundleInfo(
                id="3f2504e0-4f89-41d3-9a0c-0305e82c3301", name="benchmark", version="1.0.0", sequence=1,
                created=self.now, not_before=self.now, expires=self.now + timedelta(days=1),
            ),
            provider=self.provider.info(),
            model=ModelInfo(architecture="none", parameters={}, input="-", output="-", precision="float32"),
            style=StyleInfo(name="benchmark", description="random numbers"),
            licence=Licence(model="CC0", dataset="CC0"),
            usage=Usage(),
            privacy=PrivacyCard(
                training_data=TrainingData(
                    number_of_images="0", contains_faces=False, basis="none", classification="public", retention="none"
                ),
                dp=dp, statement=privacy_statement("style-bundle", dp),
            ),
            provenance=Provenance(
                tool="benchmark", tool_version="1", source_commit="-", torch="-", python=platform.python_version(),
                training=Training(
                    preset="none", images_seen=0, steps=0, seed=0, xi=1, init="none",
                    losses=Losses(perceptual=net, identity=net),
                ),
            ),
        )  # fmt: skip


def rounds(actions: dict[str, Callable[[], object]], count: int, *, made: Path | None = None) -> dict[str, float]:
    """Do everything in turn, several times over, after one round to warm up; returns the median seconds of each.

    What is written into the folder ``made`` is deleted outside the measured time, and the disk is idle when an
    action begins, so that none pays for the one before it.
    """
    times: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(count + 1):
        for name, action in actions.items():
            os.sync()
            start = time.perf_counter()
            action()
            seconds = time.perf_counter() - start
            if turn:
                times[name].append(seconds)
            for path in made.iterdir() if made else ():
                path.unlink()
    return {name: statistics.median(values) for name, values in times.items()}


def hash_file(path: Path) -> None:
    """Read and hash a file: the base of all ratios."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)


def throughput(studio: Studio, size: int, count: int) -> list[Figure]:
    """Measure all operations on one large bundle."""
    members = studio.members(size)
    made, bundle, sealed = (studio.folder / name for name in ("made", "base.mdfy", "sealed.mdfy"))
    made.mkdir()
    studio.pack(bundle, members)
    secret, recipient = generate_identity()
    trust, reader = TrustStore.of(studio.provider), Identity(recipient=recipient, secret=lambda: secret)

    def verify(path: Path = bundle, identity: Identity | None = None) -> None:
        verify_bundle(path, trust=trust, now=studio.now, identity=identity)

    def extract(*, files: bool = False) -> None:
        with open_bundle(bundle, trust=trust, now=studio.now) as opened:
            for name in opened.members if files else ():
                (made / Path(name).name).write_bytes(opened.read(name))

    def pack_unsynced() -> None:
        with mock.patch("os.fsync"):
            studio.pack(made / "packed.mdfy", members)

    def pack_unverified() -> None:
        with mock.patch("protocol.publish.verify_bundle"):
            pack_unsynced()

    def encrypt(path: Path) -> None:
        with bundle.open("rb") as source, path.open("wb") as target:
            encrypt_stream(source, target, [recipient])

    goals: dict[str, tuple[Callable[[], object], float | None]] = {
        "verify, steps 4 to 12": (verify, 1.25),
        "verify and copy, in memory": (extract, 2.0),
        "verify and copy, to files": (lambda: extract(files=True), 2.0),
        "package: lint, sign, write": (pack_unverified, 2.0),
        "package, and verify the result": (pack_unsynced, 2.0),
        "package, verify the result, and wait for the disk": (lambda: studio.pack(made / "packed.mdfy", members), None),
        "encrypt": (lambda: encrypt(made / "sealed.mdfy"), 4.0),
        "decrypt and verify": (lambda: verify(sealed, reader), 6.0),
    }
    base = f"base: SHA-256 and read, {size // MEGA} MB"
    encrypt(sealed)
    actions = {base: lambda: hash_file(bundle)} | {name: action for name, (action, _) in goals.items()}
    found = rounds(actions, count, made=made)
    rows = [Figure(operation=base, goal="", measured=f"{found[base] * 1000:.0f} ms")]
    for name, (_, goal) in goals.items():
        ratio = found[name] / found[base]
        rows.append(Figure(
            operation=name, goal="" if goal is None else f"<= {goal:g} x base",
            measured=f"{ratio:.2f} x ({found[name] * 1000:.0f} ms)", reached=None if goal is None else ratio <= goal,
        ))  # fmt: skip
    return rows


def peak_memory(studio: Studio, sizes: tuple[int, ...]) -> list[Figure]:
    """Measure the peak memory of a program that verifies a bundle and does nothing else; on Linux only."""
    if not Path("/proc/self/status").exists():
        return []
    key, rows = studio.folder / "studio.mdfykey", []
    write_provider_key(key, studio.provider, overwrite=True)
    for size in sizes:
        path = studio.folder / "memory.mdfy"
        studio.pack(path, studio.members(size))
        command = [sys.executable, "-c", MEASURE_PEAK, str(path), str(key)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - itself
        peak = int(answer.stdout) * 1024 / MEGA
        rows.append(Figure(
            operation=f"peak memory of verify, {size // MEGA} MB", goal="<= 80 MB, whatever the size",
            measured=f"{peak:.0f} MB", reached=peak <= 80,
        ))  # fmt: skip
    return rows


def start_up(studio: Studio, count: int) -> list[Figure]:
    """Measure the whole command on a small bundle, beside the public tool on the same files."""
    bundle, unpacked, key = studio.folder / "small.mdfy", studio.folder / "small", studio.folder / "key.pem"
    studio.pack(bundle, studio.members(MEGA // 10))
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(unpacked)
    key.write_bytes(public_pem(studio.key.public_key()))
    TrustStore(studio.folder / "config" / "trust").add(studio.provider)
    environment = {**os.environ, "MODIFY_CONFIG": str(studio.folder / "config")}
    ours = [str(Path(sys.executable).with_name("content-client")), "verify", str(bundle)]
    public = [sys.executable, "-m", "model_signing", "verify", "key", "--public_key", str(key),
              "--signature", str(unpacked / "model.sig"), str(unpacked)]  # fmt: skip

    def start(command: list[str]) -> None:
        subprocess.run(command, check=True, capture_output=True, env=environment)  # noqa: S603 - the programs compared

    found = rounds({"ours": lambda: start(ours), "public": lambda: start(public)}, count)
    factor = found["public"] / found["ours"]
    return [
        Figure(operation="content-client verify, small bundle", goal="<= 0.8 s", measured=f"{found['ours']:.2f} s",
               reached=found["ours"] <= 0.8),
        Figure(operation="model_signing verify key, the same files", goal="", measured=f"{found['public']:.2f} s"),
        Figure(operation="how many times faster", goal=">= 5", measured=f"{factor:.1f}", reached=factor >= 5),
    ]  # fmt: skip


def report(rows: list[Figure], *, table: bool) -> None:
    """Print all figures."""
    names = {True: "yes", False: "no", None: ""}
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python "
        f"{platform.python_version()}, cryptography {version('cryptography')}, pyrage {version('pyrage')}\n"
    )
    if table:
        print("| operation | goal | measured | reached |\n|---|---|---|---|")
    for row in rows:
        cells = (row.operation, row.goal, row.measured, names[row.reached])
        print(f"| {' | '.join(cells)} |" if table else f"{cells[0]:<68} {cells[2]:<22} {cells[1]}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="print Markdown")
    parser.add_argument("--megabytes", type=int, default=120)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder if omitted")
    args = parser.parse_args()
    key, now = generate_key(), datetime.now(UTC).replace(microsecond=0)
    provider = issue_provider_key(
        key, name="Benchmark", roles=("style",), not_before=now, expires=now + timedelta(days=1)
    )
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        studio = Studio(folder=Path(folder), key=key, provider=provider, now=now)
        size = args.megabytes * MEGA
        rows = [
            *throughput(studio, size, args.runs),
            *peak_memory(studio, (size // 6, size)),
            *start_up(studio, args.runs),
        ]
    report(rows, table=args.table)


if __name__ == "__main__":
    main()
