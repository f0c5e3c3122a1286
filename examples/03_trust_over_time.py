"""A key's whole life, typed as a provider and a client would: publish, trust, rotate, update, revoke (20 seconds).

    python examples/03_trust_over_time.py runs/trust

Writes two folders, ``provider/`` and ``client/``, which exchange nothing but files. The
networks are tiny; what is shown is who accepts which file, and why not.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

_TRAINING = (
    "--dataset", "synthetic", "--limit", "12", "--budget", "4steps", "--holdout", "0",
    "--audit", "no", "--name", "Harbour at dusk", "--threads", "1", "--precision", "fp32", "--quiet",
    *(word for change in ("resolution=32", "channel_max=16", "enc_max=16", "pyramid=16", "trunk=16", "w_dim=16",
                          "z_dim=16") for word in ("--set", change)),
)  # fmt: skip


class Side:
    """A folder of one of the two, and the program that is used in it."""

    def __init__(self, folder: Path, program: str) -> None:
        """Start with an empty folder; configuration and trust store are in it too."""
        folder.mkdir(parents=True)
        self.folder, self.program = folder, program
        self._environment = {**os.environ, "MODIFY_CONFIG": str(folder / "config")}

    def run(self, *words: str, code: int = 0, quiet: tuple[str, ...] = ()) -> str:
        """Run one command as typed and print it like a terminal; it must end with ``code``."""
        print(f"\n{self.folder.name}$ {shlex.join([self.program, *words])}{' ...' if quiet else ''}", flush=True)
        command = [str(Path(sys.executable).with_name(self.program)), *words, *quiet]
        done = subprocess.run(  # noqa: S603 - our own program beside this interpreter
            command, cwd=self.folder, env=self._environment, check=False, capture_output=True, text=True
        )
        print(done.stdout + done.stderr, end="")
        if code:
            print(f"[exit code {done.returncode}]")
        if done.returncode != code:
            raise SystemExit(f"expected exit code {code}, got {done.returncode}")
        return done.stdout

    def receive(self, path: Path) -> str:
        """Copy a file that the other side sent into this folder."""
        return Path(shutil.copy(path, self.folder)).name


def _fingerprint(output: str) -> str:
    return next(word for word in output.split() if word.startswith("SHA256:"))


def main(folder: Path) -> None:
    """Tell the story; stop at the first command that ends otherwise than it should."""
    shutil.rmtree(folder, ignore_errors=True)
    provider, client = Side(folder / "provider", "style-provider"), Side(folder / "client", "content-client")
    keys = provider.folder / "keys"

    made = provider.run("keygen", "--name", "Atelier Nord", "--out", "keys", "--no-passphrase")
    provider.run("package", "--out", "harbour.mdfy", quiet=_TRAINING)
    bundle = client.receive(provider.folder / "harbour.mdfy")
    client.run("verify", bundle, "--quiet", code=5)  # nobody is trusted because he was seen first
    client.run("trust", "add", client.receive(keys / "atelier-nord.mdfykey"), "--fingerprint", _fingerprint(made))
    client.run("verify", bundle)

    provider.run("key", "rotate", "keys/atelier-nord.pem", "--out", "keys", "--no-passphrase")
    provider.run("package", "--update", "harbour.mdfy", "--out", "harbour-2.mdfy", quiet=_TRAINING)
    newer = client.receive(provider.folder / "harbour-2.mdfy")
    client.run("verify", newer, "--quiet", code=5)  # the new key is not known yet
    client.run("trust", "update", client.receive(keys / "atelier-nord-2.mdfykey"))
    client.run("verify", newer, "--quiet")

    provider.run("revoke", "harbour-2.mdfy", "--reason", "a picture was used without consent")
    client.run("trust", "update", client.receive(keys / "atelier-nord.mdfyrev"))
    client.run("verify", newer, "--quiet", code=6)
    client.run("trust", "show", "Atelier Nord")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/trust"))
