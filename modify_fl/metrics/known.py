"""Figures of the pretrained networks on drawn pictures, known beforehand: whether a file does what its name says.

A digest knows two files of each network, the official one and our conversion; a third file, such as one with smaller
numbers, can still be right. So each network is asked about four drawn faces (``synthetic``), which are the same on
every machine. The values come from weights that were compared with their libraries' own tests; float16 weights move
them by less than a tenth of what is allowed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from modify_fl.metrics.inception import Inception
from modify_fl.metrics.perceptual import pairwise_lpips
from modify_fl.perceptual import FaceNet, Lpips, build_from
from modify_fl.pretrained.catalogue import NETWORKS
from modify_fl.synthetic import draw_faces

__all__ = ["KnownFigure", "figures"]

_SIDE = 128
_COUNT = 4
_SEED = 2015


@dataclass(frozen=True, kw_only=True)
class KnownFigure:
    """One figure, and what it should be."""

    what: str
    """In words."""
    expected: float
    """The known value."""
    got: float
    """The value of the file at hand."""
    tolerance: float
    """Largest difference that is allowed."""

    @property
    def right(self) -> bool:
        """Whether the file at hand gives the known value; NaN never does."""
        return abs(self.got - self.expected) <= self.tolerance


def figures(name: str, home: Path) -> list[KnownFigure]:
    """Ask a network about the drawn faces.

    Args:
        name: As in ``pretrained.catalogue``.
        home: Laid out like ``TORCH_HOME``.

    Raises:
        MissingWeightsError: The file is missing, damaged, or of another network, or a package is missing.
    """
    faces = np.stack(list(draw_faces("photo", _COUNT, _SIDE, _SEED)))  # uint8 [4, R, R, 3]
    got = _ASKED[name](home, faces)
    return [
        KnownFigure(what=what, expected=expected, got=got[what], tolerance=tolerance)
        for what, (expected, tolerance) in _KNOWN[name].items()
    ]


def _lpips(home: Path, faces: NDArray[np.uint8]) -> Mapping[str, float]:
    path = home / NETWORKS["lpips-alex"].path
    net = build_from(path, partial(Lpips, device=torch.device("cpu")), "AlexNet of LPIPS")
    return {"mean LPIPS between four drawn faces": pairwise_lpips(net, _signed(faces))}


def _identity(which: str) -> Callable[[Path, NDArray[np.uint8]], Mapping[str, float]]:
    def ask(home: Path, faces: NDArray[np.uint8]) -> Mapping[str, float]:
        path = home / NETWORKS[f"facenet-{which}"].path
        net = build_from(path, partial(FaceNet, device=torch.device("cpu")), "face network")
        with torch.no_grad():
            codes = net(_signed(faces))  # [4, 512]
        return {f"cosine between drawn faces 1 and {i + 1}": float(codes[0] @ codes[i]) for i in (1, 2)}

    return ask


def _inception(home: Path, faces: NDArray[np.uint8]) -> Mapping[str, float]:
    codes = Inception.load(home).features(faces)  # [4, 2048]
    return {
        "mean feature of four drawn faces": float(codes.mean()),
        "distance between features of drawn faces 1 and 2": float((codes[0] - codes[1]).norm()),
    }


def _signed(faces: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 127.5 - 1  # [4, 3, R, R]


_ASKED = {
    "lpips-alex": _lpips, "facenet-vggface2": _identity("vggface2"),
    "facenet-casia-webface": _identity("casia-webface"), "inception-2015": _inception,
}  # fmt: skip

_KNOWN: dict[str, dict[str, tuple[float, float]]] = {
    "lpips-alex": {"mean LPIPS between four drawn faces": (0.2411, 0.002)},
    "facenet-vggface2": {
        "cosine between drawn faces 1 and 2": (0.7354, 0.005), "cosine between drawn faces 1 and 3": (0.7435, 0.005),
    },
    "facenet-casia-webface": {
        "cosine between drawn faces 1 and 2": (0.7706, 0.005), "cosine between drawn faces 1 and 3": (0.7517, 0.005),
    },
    "inception-2015": {
        "mean feature of four drawn faces": (0.3280, 0.002),
        "distance between features of drawn faces 1 and 2": (9.728, 0.05),
    },
}  # fmt: skip
"""Value and tolerance of each figure."""
