"""What a site does with one train message (F-10, F-17, P-41).

In order: is the message allowed, is it of this bundle; charge, train, shorten; out
through the release gate. Networks and photos are set up once; a round starts from
the tensors it was sent, with fresh optimisers and the critic of the bundle, and
draws by its number, so that a site keeps nothing from round to round but its ledger
and its log.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from modify_fl.artifacts import Adapted, LoadedStyle
from modify_fl.config import StylizationConfig
from modify_fl.data import ImageSet
from modify_fl.errors import TrainingDivergedError
from modify_fl.federated.compat import RecordDict
from modify_fl.federated.plan import FederationPlan
from modify_fl.federated.policy import SecAggRule
from modify_fl.federated.records import Instruction, RefusedError, Schema, read_instruction, reply_content
from modify_fl.federated.secagg import FLOORS
from modify_fl.federated.tensors import Shortened, put, shortened, taken
from modify_fl.perceptual import PerceptualNets
from modify_fl.privacy.ledger import Vault
from modify_fl.privacy.mechanism import Mechanism
from modify_fl.privacy.release import ReleaseGate, Reply, reply_unprotected
from modify_fl.training.private import PrivateStylization, PrivateTask
from modify_fl.training.runtime import Compute
from modify_fl.training.stage2 import Stylization
from modify_fl.training.views import PhotoUnits

__all__ = ["Answered", "Held", "OpenTraining", "PrivateTraining", "Site", "Training"]

Held = Callable[[str], AbstractContextManager[Vault]]
"""Holds the vault of the photos for the length of a block, for a run with this id."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What the site's own log may know about a reply (F-13)."""

    instruction: Instruction
    """What was asked."""
    norm: float
    """Norm of the update as it was."""
    kept: float
    """The same as it left."""
    epsilon: float | None
    """Spent of the vault so far; nothing without privacy."""


class Training(Protocol):
    """Takes the local steps of a round and returns what may leave."""

    def answer(self, instruction: Instruction) -> tuple[Reply, Shortened, float | None]:
        """Train; return the reply, its update, and the epsilon spent so far.

        Raises:
            Error: Anything; the coordinator is told one word of it.
        """


class Site:
    """One site, ready for messages."""

    def __init__(
        self, style: LoadedStyle, plan: FederationPlan, training: Training, *,
        admit: Callable[[Instruction], None] = lambda _: None, log: Callable[[Answered], None] = lambda _: None,
        floors: SecAggRule = FLOORS,
    ) -> None:  # fmt: skip
        """Bind the parts.

        Args:
            style: The verified bundle.
            plan: The copy that the site accepted.
            training: Trains on the photos.
            admit: Raises where the site's policy does not allow a round.
            log: Told about every reply before it leaves.
            floors: What a masked round must have (F-30).
        """
        self._style, self.plan, self._training, self.floors = style, plan, training, floors
        self._schema, self._admit, self._log = Schema.of(style, plan.subset), admit, log
        self._answered: set[tuple[str, int]] = set()

    def answer(self, content: RecordDict) -> RecordDict:
        """Return the content of the reply to a train message.

        Raises:
            RefusedError: The message is not about the accepted plan, or was answered before.
            Error: Anything else that went wrong; see ``Training``.
        """
        instruction = read_instruction(content, schema=self._schema, bundle=self.plan.bundle)
        if not 1 <= instruction.round <= self.plan.rounds:
            raise RefusedError("policy", f"round {instruction.round} of {self.plan.rounds}")
        asked = (instruction.run, instruction.round)
        if asked in self._answered:
            raise RefusedError("policy", f"round {instruction.round} was answered before")
        self._admit(instruction)
        self._answered.add(asked)
        reply, update, epsilon = self._training.answer(instruction)
        self._log(Answered(instruction=instruction, norm=update.norm, kept=update.kept, epsilon=epsilon))
        return reply_content(reply.tensors)


# Without privacy --------------------------------------------------------------------


class OpenTraining(Stylization):
    """Local steps of equation 7; nothing is guaranteed about the photos."""

    def __init__(
        self, style: LoadedStyle, photos: ImageSet, plan: FederationPlan, *, config: StylizationConfig, seed: int,
        compute: Compute, nets: PerceptualNets, reason: str,
    ) -> None:  # fmt: skip
        """Build the networks.

        Args:
            style: The verified bundle.
            photos: The site's photos at the bundle's resolution.
            plan: The accepted numbers.
            config: The site's weights of equation 7; what the plan says takes the place of its own.
            seed: The site's own.
            compute: Device and precision.
            nets: LPIPS and the face network, where found.
            reason: Why updates without privacy may leave (P-39).
        """
        config = replace(config, subset=plan.subset, batch=plan.batch, learning_rate=plan.learning_rate)
        super().__init__(
            style, photos, mode="offline", config=config, total=plan.steps * plan.batch, seed=seed, compute=compute,
            nets=nets,
        )  # fmt: skip
        self._style, self._plan, self._reason = style, plan, reason
        self._anchor: dict[str, Tensor] = {}
        critic = self.adversary.discriminator.state_dict() if self.adversary else {}
        self._critic = {name: value.clone() for name, value in critic.items()}

    def turn_to(self, photos: ImageSet, seed: int) -> None:
        """Train for another site of this process from now on; nothing of the last one is left in a round."""
        self.photos, self.seed = photos, seed
        if self.adversary:
            self.adversary.seed = seed

    def answer(self, instruction: Instruction) -> tuple[Reply, Shortened, None]:
        """See ``Training``.

        Raises:
            TrainingDivergedError: The weights are no numbers any more.
        """
        self._begin(instruction)
        for _ in range(self._plan.local_steps):
            self.step()
        update = _finish(self.encoder, instruction, self._plan)
        adapted = _with_factors(self.result(0.0), update)
        reply = reply_unprotected(adapted, self._style, federated_round=instruction.round, reason=self._reason)
        return reply, update, None

    def _begin(self, instruction: Instruction) -> None:
        put(self.encoder, instruction.tensors)
        self._anchor = _anchors(self.encoder)
        for optimizer in self.optimizers.values():
            optimizer.state.clear()
        if self.adversary:
            self.adversary.discriminator.load_state_dict(self._critic)
        self.step_count = (instruction.round - 1) * self._plan.local_steps
        self.images_seen = self.step_count * self.batch

    def _descend(self) -> None:
        """Add the proximal term of FedProx to the gradient (Li et al. 2020), and step."""
        for name, parameter in self.encoder.named_parameters():
            if self._plan.fedprox_mu and parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - self._anchor[name], alpha=self._plan.fedprox_mu)
        super()._descend()


# With privacy -------------------------------------------------------------------------


class PrivateTraining(PrivateStylization):
    """Local steps of DP-SGD, charged as one block before the first of them (P-41)."""

    def __init__(
        self, task: PrivateTask, units: PhotoUnits, plan: FederationPlan, *, hold: Held, compute: Compute,
        nets: PerceptualNets,
    ) -> None:  # fmt: skip
        """Build the networks and the mechanism; nothing is charged.

        Args:
            task: Style, numbers, recipe; numbers are those of the accepted plan.
            units: The photos.
            plan: The accepted numbers.
            hold: Holds the vault; for each round anew, so that nobody is kept out in between.
            compute: Device and precision.
            nets: LPIPS and the face network, where found.
        """
        self._plan, self._hold, self._checked = plan, hold, False
        self._anchor: dict[str, Tensor] = {}
        self._vault: tuple[Vault, str] | None = None
        super().__init__(task, units, compute=compute, nets=nets, charge=self._charge)

    def turn_to(self, units: PhotoUnits, hold: Held) -> None:
        """Train for another site of this process from now on; nothing of the last one is left in a round."""
        self._hold = hold
        self.mechanism = Mechanism(
            self.task.settings, self.engine, units, count=len(units), charge=self._charge
        )  # fmt: skip

    def answer(self, instruction: Instruction) -> tuple[Reply, Shortened, float]:
        """See ``Training``.

        Raises:
            PrivacyBudgetError: The preflight failed, the vault is in use, or its budget does not allow the block.
        """
        if not self._checked:  # before anything is spent (P-31)
            self.check()
            self._checked = True
        # With the accepted plan: whoever names the run cannot make two plans look like one schedule (ADR 13).
        run = f"{instruction.run}@{self._plan.digest[:16]}/{instruction.round}"
        with self._hold(run) as vault:
            self._vault = vault, run
            self._begin(instruction)
            self.mechanism.pay(self._plan.local_steps)
            for _ in range(self._plan.local_steps):
                self._descend(self.mechanism.step(self.step_count))
                self._at(self.step_count + 1)
            update = _finish(self.encoder, instruction, self._plan)
            self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
            made = self.result(0.0)
            summary = replace(made.summary, steps=self._plan.local_steps)
            reply = ReleaseGate(vault, self.task.style).reply(
                _with_factors(replace(made, summary=summary), update), run=run, federated_round=instruction.round
            )
            return reply, update, vault.ledger.epsilon

    def _begin(self, instruction: Instruction) -> None:
        put(self.encoder, instruction.tensors)
        self._anchor = _anchors(self.encoder)
        self.optimizer.state.clear()
        self._at((instruction.round - 1) * self._plan.local_steps)

    def _charge(self, steps: int) -> object:
        if self._vault is None:
            raise RuntimeError("steps were to be charged while no vault was held")
        vault, run = self._vault
        return vault.charge(run=run, bundle=self.task.style.digest, settings=self.task.settings, steps=steps)

    def _descend(self, update: Tensor) -> None:
        """Add the proximal term, which no photo decides, and step: post-processing."""
        if self._plan.fedprox_mu:
            moved = [(p.detach() - self._anchor[name]).reshape(-1) for name, p in self.parameters.items()]
            update = update + self._plan.fedprox_mu * torch.cat(moved).to(update)
        super()._descend(update)


def _anchors(encoder: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in encoder.named_parameters() if p.requires_grad}


def _finish(encoder: torch.nn.Module, instruction: Instruction, plan: FederationPlan) -> Shortened:
    """Shorten the update to the published norm, and put it back."""
    found = taken(encoder)
    if not all(bool(value.isfinite().all()) for value in found.values()):
        raise TrainingDivergedError("the weights are not finite after the steps of this round")
    update = shortened(found, instruction.tensors, plan.max_update_norm)
    put(encoder, update.tensors)
    return update


def _with_factors(adapted: Adapted, update: Shortened) -> Adapted:
    if adapted.subset != "lora":
        return adapted
    return replace(adapted, factors={name.removeprefix("encoder."): value for name, value in update.tensors.items()})
