"""Features of the 2015 Inception, the network that FID and KID are defined on (M-44, M-46).

The network is that of ``torch-fidelity``, an optional package (extra
``evaluate``); it reads uint8 pictures and resizes them to 299 pixels as
TensorFlow 1 did. For speed its batch norms are folded into the convolutions and
its activations laid out channels last: the same function, features differ in
the fifth decimal. bfloat16 would double the pace once more and is not taken: it
moved KID x 1000 by 0.8 where 0.05 counts. Its weights are looked for where torch libraries cache theirs;
nothing is downloaded.

Letters: B batch, R resolution.
"""

import hashlib
import io
from importlib.metadata import version
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from modify_fl.errors import MissingWeightsError, ShapeError
from modify_fl.perceptual import NetRecord, build_from, mismatch, torch_home
from modify_fl.pretrained.catalogue import NETWORKS

__all__ = ["INCEPTION", "Inception"]

INCEPTION = NETWORKS["inception-2015"].path
"""The weights below ``TORCH_HOME``."""

_BATCH = 16


class Inception:
    """The 2015 Inception up to its last pooling, 2048 numbers a picture."""

    def __init__(self, net: nn.Module, record: NetRecord, device: torch.device) -> None:
        """Use ``load``.

        Args:
            net: Takes uint8 [B, 3, R, R], returns a tuple with float32 [B, 2048].
            record: Name and digest, for the report (M-48).
            device: Where it computes.
        """
        self._net, self.record, self._device = net, record, device

    @classmethod
    def load(cls, folder: Path | None = None, *, device: torch.device | str = "cpu") -> Self:
        """Load the network from this machine; download nothing.

        Args:
            folder: Laid out like ``TORCH_HOME``; its value unless named.
            device: Where it computes.

        Raises:
            MissingWeightsError: The package or the weights are not there, or the file holds something else.
        """
        path = (folder or torch_home()) / INCEPTION
        try:
            from torch_fidelity import FeatureExtractorInceptionV3  # noqa: PLC0415 - optional
        except ImportError as error:
            raise MissingWeightsError(
                "FID and KID need the package torch-fidelity", why=f"it cannot be imported: {error}".lower(),
                fix="run pip install 'modify-fl[evaluate]'",
            ) from error  # fmt: skip
        if not path.is_file():
            raise MissingWeightsError(
                f"no weights at {path}", why="FID and KID need the 2015 Inception",
                fix="set TORCH_HOME to the folder that holds the weights, or run style-provider weights fetch",
            )  # fmt: skip

        def build(state: dict[str, Tensor]) -> nn.Module:
            # The package unpickles whatever its file holds: it gets tensors that were read without pickle's powers.
            safe = io.BytesIO()
            torch.save(state, safe)
            safe.seek(0)
            try:
                net = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=safe)
            except RuntimeError as error:
                raise mismatch(error) from error
            return _folded(net.eval())

        net = build_from(path, build, "2015 Inception")
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        name = f"inception-2015-12-05 pool3 (torch-fidelity {version('torch-fidelity')})"
        net = net.to(device).to(memory_format=torch.channels_last)
        return cls(net, NetRecord(name=name, sha256=digest), torch.device(device))

    @torch.no_grad()
    def features(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Return the features of pictures.

        Args:
            pixels: uint8 [N, R, R, 3].

        Returns:
            float32 [N, 2048] on the CPU.

        Raises:
            ShapeError: ``pixels`` has another shape or type.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
            got = f"{pixels.dtype} {list(pixels.shape)}"
            raise ShapeError("features are of uint8 pictures", expected="uint8 [N, R, R, 3]", got=got)
        batches = [
            torch.from_numpy(np.ascontiguousarray(pixels[start : start + _BATCH])).permute(0, 3, 1, 2)  # [B, 3, R, R]
            for start in range(0, len(pixels), _BATCH)
        ]
        return torch.cat([self._net(batch.to(self._device))[0].cpu() for batch in batches])


def _folded(net: nn.Module) -> nn.Module:
    """Fold every batch norm into the convolution before it; a measuring network never trains."""
    for block in net.modules():
        convolution, norm = getattr(block, "conv", None), getattr(block, "bn", None)
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            block.conv, block.bn = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    return net
