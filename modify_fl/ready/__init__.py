"""What comes with the package, ready to use: styles, the key of their provider, pictures of nobody.

Files beside this one: ``NAME.mdfy`` for each style, ``demo.mdfykey``, ``photos.zip``
and ``paintings.zip``; ``README.md`` says how they were made and under which
licences. ``tools/release_ready.py`` writes the styles with a key of its own that
nobody keeps, ``tools/draw_demo.py`` the pictures.

Rules this module keeps: a style that came with the package is opened through the
same door as any other, so its provider has to be accepted first (B-34); nothing
here imports torch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modify_fl.errors import ConfigError
from protocol.errors import UntrustedKeyError

__all__ = ["DEMO_KEY", "HOME", "bundle_path", "demo_advice", "demo_pictures", "ready_bundles"]

HOME = Path(__file__).parent
"""Where all of them are."""

DEMO_KEY = HOME / "demo.mdfykey"
"""Key file of the provider of these styles; its private half was never written anywhere."""

_PICTURES = {"photo": HOME / "photos.zip", "painting": HOME / "paintings.zip"}


def ready_bundles() -> dict[str, Path]:
    """Return the styles that came with the package, by name, sorted."""
    return {path.stem: path for path in sorted(HOME.glob("*.mdfy"))}


def bundle_path(given: Path) -> Path:
    """Return the file that the user means by ``--bundle``.

    Args:
        given: A path; or the name of a style that came with the package, where no file is called so.

    Raises:
        ConfigError: It is a bare name, and neither a file nor such a style.
    """
    name, known = str(given), ready_bundles()
    if given.is_file() or given.suffix or given.name != name:
        return given
    if name not in known:
        raise ConfigError(
            f"there is no file {name}, and no style of this name came with the package",
            fix=f"name a .mdfy file, or one of {', '.join(known)}",
        )
    return known[name]


@contextmanager
def demo_advice(path: Path) -> Iterator[None]:
    """Say how the provider of a style that came along is accepted, if that is why the block fails."""
    try:
        yield
    except UntrustedKeyError as error:
        if path in ready_bundles().values():
            error.fix = "the style came with this program; to accept its key, run\ncontent-client trust add --demo"
        raise


def demo_pictures(look: str) -> Path:
    """Return the ZIP file of the data set ``demo``.

    Args:
        look: ``photo`` or ``painting``.
    """
    return _PICTURES[look]
