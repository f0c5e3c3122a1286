"""Compact encoder E: a picture becomes the rows of a code, without their offset (M-18, M-19).

Trainable layers are plain ``nn.Conv2d``, ``nn.Linear`` and ``nn.GroupNorm``, so
that per-sample gradients are right: no batch statistics, no in-place operation,
no module that is called twice, no weight used outside its module. The gain of
an equalised layer multiplies the layer's output; ``fold_gains`` moves it into
the weights when stage 1 is over. Gains are buffers, so a saved state says by
itself whether it was folded.

Letters: N batch, I and O channels, H side, R resolution, n rows, W width of a
row.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from modify_fl.config import NetworkConfig
from modify_fl.errors import ConfigError, ShapeError
from modify_fl.networks.paper_encoder import PaperEncoder, fold_paper_encoder
from modify_fl.ops import leaky_relu_scaled

__all__ = ["INPUT_MAX", "CompactEncoder", "Encoder", "PaperEncoder", "build_encoder", "fold_gains", "level_of_row"]
