"""From the model after the last round to a signed adapter (F-24)."""

import copy
from datetime import UTC, datetime
from pathlib import Path

import torch

from modify_fl.artifacts import Adapted, LoadedStyle, TrainingSummary
from modify_fl.bundle import load_adapter
from modify_fl.errors import TrainingDivergedError
from modify_fl.federated.plan import FederationPlan
from modify_fl.federated.rounds import Finished
from modify_fl.federated.tensors import merged_tensors
from modify_fl.perceptual import NetRecord
from modify_fl.privacy.release import Released, write_federated
from protocol.manifest import Federation
from protocol.privacy import DpStatement
from protocol.provider import ProviderKey
from protocol.signing import PrivateKey
from protocol.trust import TrustStore
from protocol.verify import open_bundle

__all__ = ["participants_band", "write_result"]

_OWN = NetRecord(name="chosen by each site")
_BANDS = (2, 5, 10, 20, 50, 100, 200, 500, 1000)


def participants_band(sites: int) -> str:
    """Say a number of sites as a band (F-24)."""
    low = max((edge for edge in _BANDS if edge <= sites), default=1)
    high = next((edge - 1 for edge in _BANDS if edge > sites), None)
    return f"{low} to {high}" if high is not None else f"{low} or more"


def write_result(
    path: Path, done: Finished, plan: FederationPlan, style: LoadedStyle, *, statement: DpStatement,
    local: bool, key: PrivateKey, provider: ProviderKey, overwrite: bool,
    nets: tuple[NetRecord, NetRecord] | None = None,
) -> Released:  # fmt: skip
    """Pack, sign and verify the result, and try it.

    Args:
        path: The ``.mdfa`` file.
        done: All rounds.
        plan: The public numbers.
        style: The bundle.
        statement: What is claimed about the photos of every site; without privacy why nothing is.
        local: Whether a result without privacy stays on this machine, as that of a simulation does.
        key: Has the role ``adapter``.
        provider: The public half.
        overwrite: Whether an existing file is replaced.
        nets: What the perceptual and the identity term of the sites were, where that is known.

    Raises:
        FederationError: No round came about (F-20).
        TrainingDivergedError: The encoder paints no picture.
        ProtocolError: The file cannot be written, or does not verify.
    """
    done.require_result()
    settings, (perceptual, identity) = plan.settings(), nets or (_OWN, _OWN)
    adapted = Adapted(
        tensors=merged_tensors(style, plan.subset, done.tensors), mode="offline", subset=plan.subset,
        summary=TrainingSummary(
            images_seen=plan.steps * (settings.batch if settings else plan.batch), steps=plan.steps, seconds=0.0,
            seed=0, perceptual=perceptual, identity=identity, compute="",
        ),
    )  # fmt: skip
    _require_pictures(adapted, style)
    federation = Federation(
        fab_sha256=(plan.fab_sha256,), run_id=done.run, rounds=len(done.rounds) - len(done.skipped),
        secure_aggregation=plan.secagg,
        participants_band=participants_band(max(record.accepted for record in done.rounds)),
    )  # fmt: skip
    released = write_federated(
        path, adapted, style=style, statement=statement, federation=federation, local=local, key=key,
        provider=provider, overwrite=overwrite,
    )  # fmt: skip
    with open_bundle(path, trust=TrustStore.of(provider), now=datetime.now(UTC)) as written:
        load_adapter(written, style)
    return released


@torch.no_grad()
def _require_pictures(adapted: Adapted, style: LoadedStyle) -> None:
    """Paint a flat grey picture with the new encoder, before anything is written."""
    encoder = copy.deepcopy(style.model.encoder)
    encoder.load_state_dict({**encoder.state_dict(), **adapted.tensors})
    side = style.network.resolution
    painted = style.model.decode(style.model.encode(torch.zeros(1, 3, side, side), encoder=encoder))
    if not bool(painted.isfinite().all()):
        raise TrainingDivergedError(
            "the mean of the sites paints no picture", fix="start anew with fewer local steps or a smaller rate"
        )
