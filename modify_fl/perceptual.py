"""Pretrained networks of equation 1: LPIPS and the face network (M-4, M-5, M-43).

``PerceptualNets.find`` looks where the networks' own libraries keep their files
(``$TORCH_HOME``, else the user's torch cache) or in a folder that is named. It
downloads nothing. What it found is recorded with its SHA-256; what it did not
find is said aloud, and the trainers fall back on M-41 and M-42.

Letters: B batch, R resolution, C channels, d width of an embedding.
"""

import hashlib
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from modify_fl.errors import ConfigError, MissingWeightsError, ShapeError
from modify_fl.networks.checkpoints import read_state_dict
from modify_fl.pretrained.catalogue import NETWORKS

__all__ = ["FaceNet", "Lpips", "NetRecord", "PerceptualNets", "build_from", "face_crop", "mismatch", "torch_home"]

_Net = TypeVar("_Net")

_ALEXNET = NETWORKS["lpips-alex"].path
_FACENETS = {name: NETWORKS[f"facenet-{name}"].path for name in ("vggface2", "casia-webface")}
_LPIPS_SIDE_MAX = 256
_FACENET_SIDE = 160
_SENTENCE = 160


def torch_home() -> Path:
    """Return the folder in which torch libraries cache weights."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("TORCH_HOME") or f"{cache}/torch").expanduser()


@dataclass(frozen=True, kw_only=True)
class NetRecord:
    """What stood in for one term of equation 1; goes into the manifest (M-43)."""

    name: str
    """Name of the network or of its replacement."""
    sha256: str | None = None
    """Digest of the weights file, hex; none for a replacement."""


def face_crop(images: Tensor) -> Tensor:
    """Cut the face out of aligned pictures (M-5).

    Args:
        images: float32 [B, 3, R, R].

    Returns:
        Rows 13.7 % to 87.1 % and columns 12.5 % to 85.9 %, [B, 3, h, w].
    """
    side = images.shape[-1]
    top, bottom, left, right = (round(side * part) for part in (0.137, 0.871, 0.125, 0.859))
    return images[:, :, top:bottom, left:right]


def mismatch(error: RuntimeError) -> ShapeError:
    """Say in one sentence why ``load_state_dict`` refused tensors."""
    # The first line names the class, each further one a kind of difference, the first of which is enough.
    sentence = str(error).split("\n")[1].strip().rstrip(". ").replace('"', "")
    return ShapeError(sentence[:1].lower() + sentence[1:_SENTENCE])


def build_from(path: Path, build: Callable[[dict[str, Tensor]], _Net], what: str) -> _Net:
    """Make a network from a file of weights.

    Args:
        path: The file; read without unpickling.
        build: Makes the network from its tensors by name.
        what: Which network that is, for the message.

    Raises:
        MissingWeightsError: The file is damaged, or holds another network.
    """
    try:
        return build(read_state_dict(path))
    except (ConfigError, ShapeError) as error:
        raise MissingWeightsError(
            f"{path} is not the {what}", why=f"{error.what}: {error.why}" if error.why else error.what,
            fix="delete it, or fetch it anew: run style-provider weights fetch --overwrite",
        ) from error  # fmt: skip


def _freeze(module: nn.Module, device: torch.device) -> None:
    module.eval().requires_grad_(requires_grad=False).to(device).to(memory_format=torch.channels_last)


class Lpips(nn.Module):
    """LPIPS v0.1 with its learned heads on AlexNet (M-4).

    Source: Zhang et al. 2018; network and heads are those of the ``lpips``
    package. The comparison is float32 whatever the convolutions run in (M-50).
    """

    def __init__(self, alexnet: dict[str, Tensor], *, device: torch.device) -> None:
        """Build the network around AlexNet's convolutions.

        Args:
            alexnet: State dict of torchvision's AlexNet; its classifier is not used.
            device: Where it computes.

        Raises:
            ShapeError: The tensors are those of another network.
        """
        super().__init__()
        from lpips import LPIPS  # noqa: PLC0415 - heavy

        with warnings.catch_warnings():
            # lpips still passes torchvision the argument `pretrained`.
            warnings.simplefilter("ignore", UserWarning)
            net = LPIPS(net="alex", pnet_rand=True, verbose=False)
        features = {name: f"features.{name.partition('.')[2]}" for name, _ in net.net.named_parameters()}
        try:
            net.net.load_state_dict({name: alexnet[theirs] for name, theirs in features.items() if theirs in alexnet})
        except RuntimeError as error:
            raise mismatch(error) from error
        self.net, self.scale = net.net, net.scaling_layer
        self.heads = [head.model[-1].weight.detach().to(device) for head in net.lins]  # each [1, C, 1, 1]
        _freeze(self, device)

    def forward(self, target: Tensor, output: Tensor) -> Tensor:
        """Return the perceptual distance, float32 [B], at least 0.

        Args:
            target: y, float32 [B, 3, R, R] in [-1, 1]; its features carry no gradient.
            output: y_r, same shape.

        Raises:
            ShapeError: The two shapes differ.
        """
        if target.shape != output.shape:
            raise ShapeError(f"expected two tensors of one shape, got {tuple(target.shape)} and {tuple(output.shape)}")
        with torch.no_grad():
            near = self.features(target)
        levels = [
            ((a - b).square() * head).sum(1).flatten(1).mean(1)  # [B]
            for a, b, head in zip(near, self.features(output), self.heads, strict=True)
        ]
        return torch.stack(levels).sum(0)

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the normalised features of each level, float32 [B, C, H, W]; two of them make a distance.

        Args:
            images: float32 [B, 3, R, R] in [-1, 1].
        """
        side = images.shape[-1]
        if side > _LPIPS_SIDE_MAX:
            images = functional.interpolate(
                images, size=_LPIPS_SIDE_MAX, mode="bicubic", antialias=True, align_corners=False
            )
        # The tiny number under the root keeps its slope finite where all features are 0.
        return [
            f.float() / ((f.float().square().sum(1, keepdim=True) + 1e-20).sqrt() + 1e-10)
            for f in self.net(self.scale(images))
        ]

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002, FBT001, FBT002 - torch's signature
        """Stay in evaluation mode whatever is asked (P-24)."""
        return super().train(mode=False)


class FaceNet(nn.Module):
    """Inception-ResNet of ``facenet-pytorch`` as the identity network R (M-5)."""

    def __init__(self, state: dict[str, Tensor], *, device: torch.device) -> None:
        """Build the network.

        Args:
            state: State dict of ``InceptionResnetV1``; the logits are not used.
            device: Where it computes.

        Raises:
            ShapeError: The tensors are those of another network.
        """
        super().__init__()
        from facenet_pytorch import InceptionResnetV1  # noqa: PLC0415 - heavy

        net = InceptionResnetV1()
        try:
            net.load_state_dict({k: v for k, v in state.items() if not k.startswith("logits.")})
        except RuntimeError as error:
            raise mismatch(error) from error
        net.eval()
        for block in list(net.modules()):
            if isinstance(getattr(block, "bn", None), nn.BatchNorm2d):
                block.conv, block.bn = fuse_conv_bn_eval(block.conv, block.bn), nn.Identity()
        self.net = net
        _freeze(self, device)

    def forward(self, images: Tensor) -> Tensor:
        """Return R of aligned pictures.

        Args:
            images: float32 [B, 3, R, R] in [-1, 1].

        Returns:
            Unit embeddings, float32 [B, 512].
        """
        face = functional.interpolate(
            face_crop(images), size=(_FACENET_SIDE, _FACENET_SIDE), mode="bilinear",
            antialias=True, align_corners=False,
        )  # [B, 3, 160, 160]  # fmt: skip
        # The network was trained on (level - 127.5) / 128.
        scaled = (face * (127.5 / 128)).contiguous(memory_format=torch.channels_last)
        return functional.normalize(self.net(scaled).float(), dim=1)

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002, FBT001, FBT002 - torch's signature
        """Stay in evaluation mode whatever is asked (P-24)."""
        return super().train(mode=False)


@dataclass(frozen=True, kw_only=True)
class PerceptualNets:
    """The frozen networks of equation 1 that are at hand."""

    lpips: Lpips | None = None
    """F of equation 1, or nothing: then M-41 stands in."""
    face: FaceNet | None = None
    """R of equation 1, or nothing: then M-42 stands in."""
    perceptual: NetRecord = field(default_factory=lambda: NetRecord(name="dis-features"))
    """What the perceptual term is."""
    identity: NetRecord = field(default_factory=lambda: NetRecord(name="laplacian"))
    """What the identity term is."""
    warnings: tuple[str, ...] = ()
    """One sentence for each replacement, to be shown at the start (M-43)."""

    @classmethod
    def find(
        cls,
        folder: Path | None = None,
        *,
        require: bool = False,
        device: torch.device | str = "cpu",
        identity: str = "vggface2",
    ) -> Self:
        """Load what is on this machine; download nothing.

        Args:
            folder: Laid out like ``TORCH_HOME``; its value unless named.
            require: Refuse to go on without both networks.
            device: Where they compute.
            identity: ``"vggface2"`` for training, ``"casia-webface"`` for evaluation.

        Returns:
            The networks found and a warning for each that was not.

        Raises:
            MissingWeightsError: ``require`` and one of them is missing, or a file holds something else.
        """
        home, target = folder or torch_home(), torch.device(device)
        alexnet, facenet = home / _ALEXNET, home / _FACENETS[identity]
        missing = [path for path in (alexnet, facenet) if not path.is_file()]
        if require and missing:
            raise MissingWeightsError(
                f"no weights at {missing[0]}", why="a perceptual and an identity network were demanded"
            )
        parts: dict[str, object] = {}
        if alexnet.is_file():
            parts["lpips"] = build_from(alexnet, partial(Lpips, device=target), "AlexNet of LPIPS")
            parts["perceptual"] = NetRecord(name="lpips-alex", sha256=_digest(alexnet))
        if facenet.is_file():
            parts["face"] = build_from(facenet, partial(FaceNet, device=target), "face network")
            parts["identity"] = NetRecord(name=f"facenet-{identity}", sha256=_digest(facenet))
        return cls(warnings=tuple(map(_warning, missing)), **parts)  # type: ignore[arg-type]


def _warning(path: Path) -> str:
    if path.name == _ALEXNET.name:
        return f"no LPIPS weights ({path.name}): features of the discriminator stand in (M-41)"
    return f"no face network ({path.name}): a Laplacian pyramid stands in for identity (M-42)"


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
