"""Give away a style without a picture; use it without giving away a photo.

Five lines::

    from modify_fl import Style, TrustStore
    style = Style.load("style.mdfy", trust=TrustStore.default())  # verified before anything is parsed
    result = style.stylize("me.jpg", seed=1, strength=0.8, faces="all")  # faces found, painted and put back
    result.save("me-painted.png")  # result.faces, result.skipped, result.id_scores

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
