"""Give away a style without a picture; use it without giving away a photo.

Five lines::

    from modify_fl import Style, TrustStore, load_images
    style = Style.load("style.mdfy", trust=TrustStore.default())  # verified before anything is parsed
    photos = load_images("photos/", resolution=style.resolution)
    painted = style.stylize(photos.batch([0]), seeds=[1], strength=0.8)  # [1, 1, 3, R, R] in [-1, 1]

Nothing heavy is imported before it is used: the command lines answer without
torch (U-31).
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modify_fl.data import load_images
    from modify_fl.style import Style
    from protocol.trust import TrustStore

__all__ = ["Style", "TrustStore", "load_images"]

_HOMES = {"Style": "modify_fl.style", "TrustStore": "protocol.trust", "load_images": "modify_fl.data"}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(_HOMES[name]), name)
