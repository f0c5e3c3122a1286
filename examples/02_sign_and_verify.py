"""What a signature is good for: the right key opens the file, everything else is refused (one second, no torch).

    python examples/02_sign_and_verify.py runs/example

Needs the folder that 01_encapsulate.py makes.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from protocol.errors import ProtocolError
from protocol.provider import read_provider_key
from protocol.trust import TrustStore
from protocol.verify import open_bundle


def attempt(what: str, path: Path, trust: TrustStore) -> None:
    """Open a file and print how that ends."""
    try:
        with open_bundle(path, trust=trust, now=datetime.now(UTC)) as bundle:
            print(f"{what}: signed by {bundle.signer.label}, {len(bundle.steps)} steps passed")
    except ProtocolError as error:
        print(f"{what}: refused at step {error.step}: {error}")


def main(folder: Path) -> None:
    """Verify with the right key, with no key, and after one flipped bit."""
    path = folder / "style.mdfy"
    provider = read_provider_key(folder / "studio.mdfykey")
    attempt("pinned key", path, TrustStore.of(provider))
    attempt("no pinned key", path, TrustStore.of())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    damaged = folder / "damaged.mdfy"
    damaged.write_bytes(data)
    attempt("one bit flipped", damaged, TrustStore.of(provider))
    damaged.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/example"))
