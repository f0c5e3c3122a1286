"""A style as an ONNX graph, to paint without torch (U-19).

The graph is the path that ``Style.paint`` takes, with D's fixed noise inside (M-16)::

    photo     float32 [B, 3, R, R] in [-1, 1]: aligned faces
    z         float32 [B, Z], standard normal: one style each
    strength  float32 [], clipped to 0 to 1: share of the style (M-26)
    painted   float32 [B, 3, R, R] in [-1, 1]

Nothing but a name and numbers goes along: the exporter notes on every node which
line of which file it came from, and that is removed.

Letters: B batch, n rows, k first style row, xi style rows, W width of a row, Z
width of the noise, R resolution.
"""

import importlib.util
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from modify_fl.artifacts import LoadedStyle
from modify_fl.errors import MissingPackageError
from modify_fl.networks.model import StyleModel
from modify_fl.styles import draw_noise

__all__ = ["STYLES", "onnx_bytes", "require_onnx"]

STYLES = "styles"
"""Metadata key: JSON object from style number to its noise z, Z numbers each."""

_PACKAGES = ("onnx", "onnxscript")


class _Graph(nn.Module):
    """What the file computes."""

    def __init__(self, model: StyleModel, encoder: nn.Module | None) -> None:
        super().__init__()
        self.encoder, self.offset = encoder or model.encoder, model.offset  # an E that E' replaces stays out
        self.remapping, self.generator, self._split = model.remapping, model.generator, model.split

    def forward(self, photo: Tensor, z: Tensor, strength: Tensor) -> Tensor:
        codes, rows = self.offset(self.encoder(photo)), self.remapping(z)  # [B, n, W], [B, xi, W]
        share = strength.clamp(0, 1)
        mixed = (1 - share) * codes[:, self._split :] + share * rows  # [B, xi, W]
        painted: Tensor = self.generator(torch.cat([codes[:, : self._split], mixed], 1))  # [B, 3, R, R]
        return painted.clamp(-1, 1)


def require_onnx() -> None:
    """Refuse to go on without the packages of the extra ``onnx``.

    Raises:
        MissingPackageError: One of them is not installed.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"an ONNX file needs the package {' and the package '.join(missing)}", why="not installed here",
            fix="run pip install 'modify-fl[onnx]'",
        )  # fmt: skip


@torch.no_grad()
def onnx_bytes(
    style: LoadedStyle, encoder: nn.Module | None, *, seeds: Sequence[int], facts: Mapping[str, str]
) -> bytes:
    """Return the contents of an ONNX file.

    Args:
        style: The verified bundle's networks.
        encoder: E' of an adapter; the bundle's own E if none.
        seeds: Styles whose noise goes along under ``STYLES``, by seed: only
            torch can draw it.
        facts: More metadata, by key.

    Raises:
        MissingPackageError: A package is not installed.
    """
    require_onnx()
    import onnx  # noqa: PLC0415 - optional

    side = style.network.resolution
    example = (torch.zeros(2, 3, side, side), torch.ones(2, style.network.z_dim), torch.tensor(1.0))
    graph = _Graph(style.model, encoder).eval()
    graph(*example)  # fills the cache of filters, which must not keep the exporter's tensors without values
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's remarks are about its own inside
        program = torch.onnx.export(
            graph, example, input_names=("photo", "z", "strength"), output_names=("painted",),
            dynamic_shapes=({0: batch}, {0: batch}, None), dynamo=True, verbose=False,
        )  # fmt: skip
    message = cast("torch.onnx.ONNXProgram", program).model_proto
    _forget(message)
    noise = {seed: draw_noise(style.model, seed)[0].tolist() for seed in seeds}
    onnx.helper.set_model_props(message, {**facts, STYLES: json.dumps(noise)})
    onnx.checker.check_model(message, full_check=True)
    content: bytes = message.SerializeToString()
    return content


def _forget(message: Any) -> None:  # noqa: ANN401 - any message of protobuf
    """Remove every note of the exporter, in place: paths, lines of source, names of modules."""
    for name in ("metadata_props", "doc_string"):
        if name in message.DESCRIPTOR.fields_by_name:
            message.ClearField(name)
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if isinstance(value, Sequence) else (value,):
                _forget(part)
