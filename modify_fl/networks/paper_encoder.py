"""The paper's encoder: an IR-SE50 backbone under a feature pyramid (M-20).

Structure and names are those of pSp's GradualStyleEncoder, so that its state
dicts load by name: the backbone's features after blocks 6, 20 and 23, joined
from coarse to fine, and for every row of the code its own stack of stride-2
convolutions and an equalised linear layer. BatchNorm is fixed when stage 1
ends: ``fold`` makes a scale and a shift per channel out of it, after which the
network holds no statistics and has no training mode.

Letters: N batch, C channels, H side, S side of the input, R resolution, n rows,
W width of a row.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from modify_fl.config import NetworkConfig
from modify_fl.networks.layers import PYRAMID_STRIDES, EqualLinear, encoder_input, encoder_side, level_of_row
from modify_fl.ops import widen

__all__ = ["ChannelAffine", "PaperEncoder", "fold_batchnorm"]

_STAGES = ((64, 3), (128, 4), (256, 14), (512, 3))  # channels and blocks of IR-SE50
_TAPS = (6, 20, 23)  # blocks whose outputs the pyramid reads, fine first
_REDUCTION = 16
_WIDTH = 512


class ChannelAffine(nn.Module):
    """A fixed scale and shift per channel: what is left of a BatchNorm (M-20).

    Both are buffers: no training touches them again.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        """Take over the statistics and the affine part of ``norm``."""
        super().__init__()
        mean, variance = norm.running_mean, norm.running_var
        if mean is None or variance is None:
            raise ValueError("a BatchNorm without running statistics cannot be folded")
        scale = norm.weight.detach() * (variance + norm.eps).rsqrt()
        self.register_buffer("weight", scale)
        self.register_buffer("bias", norm.bias.detach() - mean * scale)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, H] to the same shape."""
        return x * self.weight[:, None, None].to(x.dtype) + self.bias[:, None, None].to(x.dtype)


class _SqueezeExcitation(nn.Module):
    """Scale each channel by a number in (0, 1) that depends on all channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // _REDUCTION, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // _REDUCTION, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, H] to the same shape."""
        mean = x.mean((2, 3), keepdim=True)  # [N, C, 1, 1]
        return x * torch.sigmoid(self.fc2(functional.relu(self.fc1(mean))))


class _Bottleneck(nn.Module):
    """Residual unit of IR-SE50; the names of its parts are those of pSp."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module
        if inputs == outputs:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            _SqueezeExcitation(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, I, H, H] to [N, O, H/stride, H/stride]."""
        y: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return y


class _StyleStack(nn.Module):
    """Stride-2 convolutions down to one pixel, then an equalised linear layer: one row of the code."""

    def __init__(self, side: int, w_dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(side.bit_length() - 1):  # log2 of the side
            layers += [nn.Conv2d(_WIDTH, _WIDTH, 3, 2, 1), nn.LeakyReLU()]
        self.convs = nn.Sequential(*layers)
        self.linear: EqualLinear | nn.Linear = EqualLinear(_WIDTH, w_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, 512, H, H] to [N, W]."""
        row: Tensor = self.linear(self.convs(x).flatten(1))
        return row


class PaperEncoder(nn.Module):
    """GradualStyleEncoder with an IR-SE50 backbone, about 267 million parameters at n = 18."""

    def __init__(self, config: NetworkConfig) -> None:
        """Draw weights from torch's current random state."""
        super().__init__()
        self.resolution, self._side = config.resolution, encoder_side(config.resolution)
        first = _STAGES[0][0]
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first), nn.PReLU(first)
        )
        self.body = nn.Sequential()
        inputs = first
        for outputs, count in _STAGES:
            for index in range(count):
                self.body.append(_Bottleneck(inputs, outputs, 2 if index == 0 else 1))
                inputs = outputs
        sides = [self._side // stride for stride in PYRAMID_STRIDES]
        self.styles = nn.ModuleList(
            _StyleStack(sides[level_of_row(row)], config.w_dim) for row in range(config.n_styles)
        )
        self.latlayer1 = nn.Conv2d(256, _WIDTH, 1)
        self.latlayer2 = nn.Conv2d(128, _WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return what E adds to the average code.

        Args:
            x: Pictures [N, 3, R, R] in [-1, 1]; reduced to 256 px where larger.

        Returns:
            float32 [N, n, W], without ``w_avg``.

        Raises:
            ShapeError: ``x`` is not [N, 3, R, R].
        """
        x = self.input_layer(encoder_input(x, self.resolution))  # [N, 64, S, S]
        taps = []
        for index, block in enumerate(self.body):
            x = block(x)  # [N, C, H, H]
            if index in _TAPS:
                taps.append(x)
        fine, middle, coarse = taps
        middle = _add(coarse, self.latlayer1(middle))  # [N, 512, S/8, S/8]
        levels = (coarse, middle, _add(middle, self.latlayer2(fine)))  # fine: [N, 512, S/4, S/4]
        rows = [style(levels[level_of_row(row)]) for row, style in enumerate(self.styles)]  # n times [N, W]
        return widen(torch.stack(rows, 1))  # [N, n, W]

    @property
    def folded(self) -> bool:
        """Whether BatchNorm is gone."""
        return not any(isinstance(module, nn.BatchNorm2d) for module in self.modules())

    @torch.no_grad()
    def fold(self) -> None:
        """Fix BatchNorm as scale and shift, and make the equalised layers plain; in place (M-19, M-20).

        Outputs in evaluation mode stay equal to 1e-6. Folding twice changes nothing.
        """
        fold_batchnorm(self)
        for style in self.styles:
            if isinstance(style.linear, EqualLinear):
                style.linear = style.linear.folded()


@torch.no_grad()
def fold_batchnorm(module: nn.Module) -> None:
    """Replace every ``nn.BatchNorm2d`` below ``module`` by its ``ChannelAffine``; in place (M-20)."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, ChannelAffine(child).train(child.training))


def _add(coarse: Tensor, lateral: Tensor) -> Tensor:
    """Enlarge ``coarse`` to the size of ``lateral`` and add, as pSp does (corners aligned)."""
    return functional.interpolate(coarse, size=lateral.shape[-2:], mode="bilinear", align_corners=True) + lateral
