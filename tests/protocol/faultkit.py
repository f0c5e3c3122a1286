"""Programs that are killed, or run out of disk, in the middle of their work; started by test_faults."""

import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from attackkit import NEXT_KEY, next_key
from bundlekit import MEMBERS, NOW, STUDIO, STUDIO_KEY, style_manifest, weights, write_style

from protocol.encryption import Identity
from protocol.errors import ProtocolError
from protocol.revocation import extend_revocation, issue_revocation
from protocol.trust import TrustStore
from protocol.verify import open_bundle, verify_bundle

RELEASES = 20
LARGE = {"weights/large.safetensors": weights({"w": [1000, 500]})}


def release(path: Path, sequence: int) -> Path:
    """Write the studio's release with this sequence."""
    manifest = style_manifest()
    write_style(path, manifest=replace(manifest, bundle=replace(manifest.bundle, sequence=sequence)), overwrite=True)
    return path


def publish(path: Path, *, recipients: tuple[str, ...] = (), overwrite: bool = True) -> None:
    """Write a bundle of two megabytes."""
    members = {**MEMBERS, **LARGE}
    write_style(path, members=members, abs_max=dict.fromkeys(members, 0.5), recipients=recipients, overwrite=overwrite)


def keep_publishing(told: Connection, folder: Path, recipients: tuple[str, ...]) -> None:
    """Publish over and over, in turn over the old file and where there is none."""
    for turn in itertools.count():
        told.send(turn)
        if turn % 2:
            (folder / "style.mdfy").unlink()
        publish(folder / "style.mdfy", recipients=recipients, overwrite=not turn % 2)


def keep_using(told: Connection, folder: Path, releases: Path) -> None:
    """Use one release after the other; tells which one was recorded."""
    trust = TrustStore(folder / "trust")
    told.send(0)
    for sequence in itertools.chain(range(1, RELEASES + 1), itertools.repeat(RELEASES)):
        with open_bundle(releases / f"{sequence}.mdfy", trust=trust, now=NOW) as bundle:
            bundle.record_use()
        told.send(sequence)


def keep_updating(told: Connection, folder: Path) -> None:
    """Take up a new key and one list after the other; tells which list was stored."""
    trust, second = TrustStore(folder / "trust"), next_key()
    told.send(-1)
    trust.update(second, now=NOW)
    told.send(0)
    newest = None
    while True:
        newest = extend_revocation(NEXT_KEY, second, newest, issued=NOW, bundles={os.urandom(32).hex(): "withdrawn"})
        trust.update(newest.signed, now=NOW)
        told.send(newest.number)


# Disk full ------------------------------------------------------------------------


def _limited(told: Connection, limit: int, action: Callable[[], object]) -> None:
    """Do something while no file may grow beyond ``limit`` bytes; tells the code of the error."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        action()
        told.send("")
    except ProtocolError as error:
        told.send(f"{error.code} {error.exit_code}")


def publish_on_a_full_disk(told: Connection, folder: Path, limit: int, recipients: tuple[str, ...]) -> None:
    _limited(told, limit, lambda: publish(folder / "style.mdfy", recipients=recipients, overwrite=False))


def update_on_a_full_disk(told: Connection, folder: Path, limit: int) -> None:
    trust = TrustStore(folder / "trust")
    _limited(told, limit, lambda: trust.update(next_key(), now=NOW))


def revoke_on_a_full_disk(told: Connection, folder: Path, limit: int) -> None:
    trust, listed = TrustStore(folder / "trust"), issue_revocation(STUDIO_KEY, STUDIO, number=1, issued=NOW)
    _limited(told, limit, lambda: trust.update(listed.signed, now=NOW))


def use_on_a_full_disk(told: Connection, folder: Path, limit: int) -> None:
    trust = TrustStore(folder / "trust")
    with open_bundle(folder / "1.mdfy", trust=trust, now=NOW) as bundle:
        _limited(told, limit, bundle.record_use)


def decrypt_on_a_full_disk(told: Connection, folder: Path, limit: int, recipient: str, secret: str) -> None:
    trust, reader = TrustStore(folder / "trust"), Identity(recipient=recipient, secret=lambda: secret)
    _limited(told, limit, lambda: verify_bundle(folder / "style.mdfy", trust=trust, now=NOW, identity=reader))
