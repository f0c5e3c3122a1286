"""Equation 7 for training with privacy: one loss per photo that no other photo can touch (P-20 to P-25).

Differences from plain stage 2, each forced by condition 1 of the proof: the
critic is the frozen one of the bundle, without augmentation over the batch; what
is drawn for a photo (whether its likeness is judged in a style, and in which)
follows from the run's seed, the step and this photo's own pixels, never from its
place in the batch.

Letters: B batch, R resolution, n rows, W width of a row, Z width of the noise.
"""

import copy
import hashlib

import torch
from torch import Tensor

from modify_fl import losses
from modify_fl.artifacts import LoadedStyle
from modify_fl.config import StylizationConfig
from modify_fl.errors import ConfigError
from modify_fl.perceptual import PerceptualNets
from modify_fl.privacy.loss_nets import LossNets
from modify_fl.streams import generator
from modify_fl.training.runtime import Compute
from modify_fl.training.terms import ImageTerms

__all__ = ["PhotoLoss"]

_REMEMBERED = 20_000  # embeddings of 2 kB


class PhotoLoss(LossNets):
    """D, M, the critic, F and R, all frozen, and the weighted terms of equation 7."""

    def __init__(
        self, style: LoadedStyle, *, config: StylizationConfig, seed: int, compute: Compute, nets: PerceptualNets
    ) -> None:  # fmt: skip
        """Copy the frozen networks.

        Args:
            style: The verified bundle; not changed.
            config: Weights of equation 7.
            seed: Of the public draws.
            compute: Device and precision of the loss networks.
            nets: LPIPS and the face network, where found.

        Raises:
            ConfigError: The critic compares the pictures of a batch (M-21).
        """
        super().__init__()
        self._config, self._critic_config, self._seed, self._compute = config, style.critic, seed, compute
        self._z_dim = style.network.z_dim
        self.model = compute.place(copy.deepcopy(style.model))
        shipped = style.discriminator
        needed = shipped is not None and (config.lambda_adv_x > 0 or nets.lpips is None)
        if needed and style.network.minibatch_std:
            raise ConfigError(
                "the critic of this bundle compares the pictures of a batch (minibatch standard deviation)",
                why="with privacy, no photo may change the gradient of another (P-22, M-21)",
                fix="use --set lambda_adv_x=0 with LPIPS weights installed",
            )
        self.critic = compute.place(copy.deepcopy(shipped)) if needed and shipped is not None else None
        self.lpips, self.face = nets.lpips, nets.face
        self.terms = ImageTerms(
            nets=nets, features=None if nets.lpips else self.critic, compute=compute, lambda_r=config.lambda_r,
            lambda_l1=0.0, lambda_lp=config.lambda_lp, lambda_id=config.lambda_id, luma=config.luma,
        )  # fmt: skip
        self._seen: dict[str, Tensor] = {}
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, photos: Tensor, codes: Tensor, step: int) -> Tensor:
        """Return the loss of each photo; see ``LossNets``."""
        names = [hashlib.sha256(p.detach().cpu().float().contiguous().numpy().tobytes()).hexdigest() for p in photos]
        own = photos.to(device=codes.device, memory_format=torch.channels_last)
        with self._compute.autocast():
            output = self.model.decode(codes).float()
            judged = self._in_style(names, codes, step) if self._config.painted else output
        known = self._embeddings(names, own) if self.face is not None and self._config.lambda_id else None
        terms = self.terms(own, output) | self.terms.likeness(own, judged, known=known)
        total = torch.stack(list(terms.values())).sum(0)  # [B]
        if self.critic is not None and self._config.lambda_adv_x:
            with self._compute.autocast():
                score = self.critic(output)
            total = total + self._config.lambda_adv_x * losses.adversarial_generator(
                score, self._critic_config.adversary
            )
        return total

    def _in_style(self, names: list[str], codes: Tensor, step: int) -> Tensor:
        """Return photos as they will be shown, D({E'_l(x), M(z)}), a share of them as D(E'(x)) (ADR 9)."""
        coins, draws = zip(*(self._draw(name, step) for name in names), strict=True)
        z = torch.stack(draws).to(codes.device)  # [B, Z]
        painted = torch.tensor([coin < self._config.painted for coin in coins], device=codes.device)
        # All of them, whatever the coins say: the shape of a pass tells nothing of the photos in it (P-60).
        styled = torch.where(painted[:, None, None], self.model.fuse(codes, self.model.remap(z)), codes)
        return self.model.decode(styled).float()

    def _draw(self, name: str, step: int) -> tuple[float, Tensor]:
        """Return a coin in [0, 1) and z, float32 [Z]: functions of seed, step and this photo alone."""
        own = generator(self._seed, f"likeness/{name}", step)
        return float(torch.rand((), generator=own)), torch.randn(self._z_dim, generator=own)

    def _embeddings(self, names: list[str], photos: Tensor) -> Tensor:
        """Return R(x) of each photo, float32 [B, d]; computed once for each, as nothing in it changes."""
        missing = [at for at, name in enumerate(names) if name not in self._seen]
        if missing:
            # One by one: which photos are known must not show in the shape of a pass (P-60).
            found = torch.cat([self.terms.embedding(photos[at : at + 1]) for at in missing])
            if len(self._seen) > _REMEMBERED:
                self._seen.clear()
            self._seen |= {names[at]: found[row] for row, at in enumerate(missing)}
        return torch.stack([self._seen[name] for name in names])
