"""The measuring networks that are at hand (M-43, M-44, M-48)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from modify_fl.errors import MissingWeightsError
from modify_fl.metrics.inception import Inception
from modify_fl.perceptual import FaceNet, Lpips, NetRecord, PerceptualNets

__all__ = ["Instruments"]

_TRAINED_ON_OTHER = {"facenet-casia-webface": "vggface2"}


@dataclass(frozen=True, kw_only=True)
class Instruments:
    """Inception, LPIPS and a face network; each may be missing."""

    inception: Inception | None
    """For FID and KID."""
    lpips: Lpips | None
    """For diversity and reconstruction."""
    face: FaceNet | None
    """For identity; not the network that the style was trained with."""
    records: Mapping[str, NetRecord]
    """Name and digest of those that were found."""
    missing: Mapping[str, str]
    """Why the others were not, by the same names."""

    @classmethod
    def find(cls, folder: Path | None = None, *, trained_identity: str = "", require: bool = False) -> Self:
        """Load what is on this machine; download nothing.

        Args:
            folder: Laid out like ``TORCH_HOME``; its value unless named.
            trained_identity: Name of the identity network in the bundle's manifest;
                another one measures (M-44).
            require: Refuse to go on unless all are there.

        Raises:
            MissingWeightsError: ``require``, and one of them is missing.
        """
        records: dict[str, NetRecord] = {}
        missing: dict[str, str] = {}
        inception = None
        try:
            inception = Inception.load(folder)
            records["inception"] = inception.record
        except MissingWeightsError as error:
            if require:
                raise
            missing["inception"] = f"{error.what} ({error.why}); {error.fix}"
        nets = PerceptualNets.find(folder, identity=_TRAINED_ON_OTHER.get(trained_identity, "casia-webface"))
        for name, net, record in (("lpips", nets.lpips, nets.perceptual), ("face", nets.face, nets.identity)):
            if net is not None:
                records[name] = record
            else:
                missing[name] = f"no weights of the {_NAMES[name]} below TORCH_HOME"
                if require:
                    raise MissingWeightsError(missing[name], why="all figures were demanded", fix=_FIX)
        return cls(inception=inception, lpips=nets.lpips, face=nets.face, records=records, missing=missing)


_NAMES = {"lpips": "network of LPIPS", "face": "face network for evaluation"}
_FIX = "set TORCH_HOME to the folder that holds them, drop --require-all, or run style-provider weights fetch"
