"""The image terms of equations 6 and 7: reconstruction, perceptual, identity.

One place decides what stands in for a network that is missing (M-41, M-42), so
stage 1 and stage 2 cannot differ in it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from modify_fl import losses
from modify_fl.networks.discriminator import Discriminator
from modify_fl.perceptual import NetRecord, PerceptualNets, face_crop
from modify_fl.training.runtime import Compute

__all__ = ["ImageTerms"]

_LAPLACIAN_WEIGHT = 0.5


@dataclass(frozen=True, kw_only=True)
class ImageTerms:
    """Weighted terms between a picture and what the generator made of it."""

    nets: PerceptualNets
    """LPIPS and the face network, where found."""
    features: Discriminator | None
    """Dis whose features replace LPIPS; needed only where LPIPS is missing."""
    compute: Compute
    """Device and precision."""
    lambda_r: float
    """Weight of L_r."""
    lambda_l1: float
    """Weight of the absolute difference."""
    lambda_lp: float
    """Weight of L_lp or its replacement."""
    lambda_id: float
    """Weight of L_id; its replacement has weight 0.5 times this (M-42)."""
    luma: bool = False
    """Compare channel means only in L_r (M-33)."""

    def __call__(self, target: Tensor, output: Tensor) -> dict[str, Tensor]:
        """Return every weighted term in use that compares the whole picture, float32 [B] each.

        Args:
            target: y or x, float32 [B, 3, R, R] in [-1, 1].
            output: y_r or x', same shape.
        """
        reconstruct = losses.reconstruction_luma if self.luma else losses.reconstruction
        terms = {"r": self.lambda_r * reconstruct(target, output)}
        if self.lambda_l1:
            terms["l1"] = self.lambda_l1 * losses.absolute(target, output)
        if self.lambda_lp:
            terms["lp"] = self.lambda_lp * self.perceptual(target, output)
        return terms

    def likeness(
        self, faces: Tensor, output: Tensor, identity_scale: float = 1.0, known: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the weighted identity term where it is in use, float32 [B].

        Args:
            faces: Who should be recognised, float32 [B, 3, R, R] in [-1, 1].
            output: In these pictures, same shape.
            identity_scale: 0 leaves the term out of this step; more than 1
                makes up for steps that left it out.
            known: R(faces) where the caller has it already, float32 [B, d].
        """
        if not self.lambda_id or not identity_scale:
            return {}
        return {"id": self.lambda_id * identity_scale * self.identity(faces, output, known)}

    @property
    def perceptual_record(self) -> NetRecord:
        """What the perceptual term is; ``none`` without LPIPS and without a critic (M-43)."""
        return self.nets.perceptual if self.nets.lpips or self.features else NetRecord(name="none")

    def perceptual(self, target: Tensor, output: Tensor) -> Tensor:
        """Return L_lp, or the distance of M-41 where LPIPS is missing; float32 [B]."""
        with self.compute.autocast():
            if self.nets.lpips is not None:
                distance: Tensor = self.nets.lpips(target, output)
                return distance
            if self.features is None:  # a bundle without critic and no LPIPS: nothing can stand in
                return torch.zeros(len(target), device=target.device)
            with torch.no_grad():
                near, _ = self.features.features(target)
            far, _ = self.features.features(output)
        return losses.feature_distance(near, far)

    def identity(self, target: Tensor, output: Tensor, known: Tensor | None = None) -> Tensor:
        """Return L_id, or the weighted distance of M-42 where the face network is missing; float32 [B].

        Arguments as in ``likeness``.
        """
        if self.nets.face is None:
            return _LAPLACIAN_WEIGHT * losses.laplacian(face_crop(target), face_crop(output))
        near = self.embedding(target) if known is None else known
        with self.compute.autocast():
            far = self.nets.face(output)
        return losses.identity(near, far)

    @torch.no_grad()
    def embedding(self, faces: Tensor) -> Tensor:
        """Return R of faces, without gradient, float32 [B, d]; only where there is a face network."""
        if self.nets.face is None:
            raise RuntimeError("there is no face network")
        with self.compute.autocast():
            found: Tensor = self.nets.face(faces)
        return found
