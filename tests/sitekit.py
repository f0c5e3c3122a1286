"""A coordinator's plan and the sites that enrolled for it, made with the two programs as a user would."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import programs

from protocol.provider import read_provider_key

REASON = "drawn faces, shown to anybody"


@dataclass(frozen=True, kw_only=True)
class Party:
    """A folder with a configuration of its own, as on a machine of its own."""

    path: Path

    @contextmanager
    def at_home(self) -> Iterator[None]:
        """Let programs of this process find the party's own keys and trust."""
        names = {"MODIFY_CONFIG": "config", "MODIFY_DATA_DIR": "data"}
        before = {name: os.environ.get(name) for name in names}
        os.environ.update({name: str(self.path / folder) for name, folder in names.items()})
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name, None) if value is None else os.environ.update({name: value})

    def provider(self, *words: str | Path) -> programs.Result:
        """Run ``style-provider`` here."""
        with self.at_home():
            return programs.provider(*words, cwd=self.path)

    def client(self, *words: str | Path) -> programs.Result:
        """Run ``content-client`` here."""
        with self.at_home():
            return programs.client(*words, cwd=self.path)


def make_coordinator(folder: Path, studio: Path) -> Party:
    """A folder with keys, the style and an empty folder for keys of sites."""
    folder.mkdir()
    shutil.copytree(studio / "keys", folder / "keys")
    shutil.copy(studio / "style.mdfy", folder)
    (folder / "sites").mkdir()
    return Party(path=folder)


def plan(coordinator: Party, *words: str | Path, out: str = "plan") -> Path:
    """Plan two short rounds, and return the folder."""
    made = coordinator.provider(
        "federate", "plan", "style.mdfy", "--sites", "sites", "--rounds", "2", "--local-steps", "1", "--batch", "2",
        "--out", out, *words,
    )  # fmt: skip
    assert made.code == 0, made.err
    return coordinator.path / out


def make_site(folder: Path, coordinator: Party, *, kit: Path, photos: int = 2) -> Party:
    """A folder with photos, that trusts the provider and has enrolled as its own name."""
    folder.mkdir()
    site, key = Party(path=folder), coordinator.path / "keys" / "studio.mdfykey"
    programs.draw_photos(folder / "photos", photos)
    trusted = site.client("trust", "add", key, "--fingerprint", read_provider_key(key).fingerprint)
    assert trusted.code == 0, trusted.err
    enrolled = site.client("federate", "enroll", kit, "--name", folder.name, "--allow-unprotected", REASON)
    assert enrolled.code == 0, enrolled.err
    return site


def join_words(coordinator: Party, *, kit: Path) -> tuple[str | Path, ...]:
    """The words of ``preview`` and ``join`` after their names."""
    return (kit, "--bundle", coordinator.path / "style.mdfy", "--no-align")
