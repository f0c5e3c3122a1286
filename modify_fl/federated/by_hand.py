"""``flwr run`` on the app's folder by hand: a simulation on this machine, by the settings of the run.

For people who know Flower. Which bundle and which folders of photos are used stands in
the run's settings, which would be wrong over a network: there whoever starts a run would
choose what a site reads. A site that has joined a federation never gets here (F-8, F-10);
here every node must be a partition of one simulation. Nothing is guaranteed about the
photos. The rounds are kept in the folder ``out``; where that is ``NAME.mdfa.run``,
``content-client federate simulate --out NAME.mdfa`` with the same numbers signs the result.
"""

import os
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from modify_fl.artifacts import LoadedStyle
from modify_fl.bundle import load_style
from modify_fl.config import PRESETS, Runtime, StylizationConfig, preset
from modify_fl.data import load_images
from modify_fl.errors import ConfigError
from modify_fl.federated.client_app import make_client_app
from modify_fl.federated.compat import Context
from modify_fl.federated.coordinator import Coordinator
from modify_fl.federated.plan import FederationPlan, read_plan, write_plan
from modify_fl.federated.records import RefusedError
from modify_fl.federated.simulation import plan_simulation
from modify_fl.federated.site import OpenTraining, Site
from modify_fl.perceptual import PerceptualNets
from modify_fl.training.runtime import resolve
from protocol.trust import TrustStore
from protocol.verify import open_bundle

__all__ = ["client_app", "coordinator_by_hand"]

_REASON = "a simulation on one machine; nothing leaves it"


def coordinator_by_hand(context: Context) -> Coordinator:
    """Return what a run needs, from its own settings.

    Raises:
        ConfigError: A setting is missing or makes no sense.
        ProtocolError: The bundle is not acceptable.
    """
    style, folder = _style(_text(context, "bundle")), Path(_text(context, "out"))
    plan = _plan(context, style)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_plan(plan, folder, overwrite=True)
    return Coordinator(plan=plan, style=style, folder=folder)


def _site(context: Context) -> Site:
    if "partition-id" not in context.node_config:
        raise RefusedError("policy", "settings of a run name photos in a simulation only (F-10)")
    chosen = int(context.node_config["partition-id"])
    bundle = _text(context, "bundle")
    return _built(
        bundle, _plan(context, _style(bundle)), _folders(context)[chosen],
        align=bool(context.run_config["align"]), seed=int(context.run_config["seed"]) + chosen + 1,
    )  # fmt: skip


@cache
def _style(bundle: str) -> LoadedStyle:
    with open_bundle(Path(bundle), trust=TrustStore.default(), now=datetime.now(UTC)) as verified:
        return load_style(verified, record=False)


@cache
def _built(bundle: str, plan: FederationPlan, photos: str, *, align: bool, seed: int) -> Site:
    style, compute = _style(bundle), resolve(Runtime(device="cpu"))
    images = load_images(photos, resolution=style.network.resolution, align=align)
    nets = PerceptualNets.find(device=compute.device)
    training = OpenTraining(
        style, images, plan, config=_config(style), seed=seed, compute=compute, nets=nets, reason=_REASON
    )
    return Site(style, plan, training)


def _plan(context: Context, style: LoadedStyle) -> FederationPlan:
    settings, config = context.run_config, _config(style)
    if settings["plan"]:
        return read_plan(Path(str(settings["plan"])))
    return plan_simulation(
        style, sites=len(_folders(context)), subset=str(settings["subset"]),  # type: ignore[arg-type]
        rounds=int(settings["num-server-rounds"]), local_steps=int(settings["local-steps"]), batch=config.batch,
        learning_rate=config.learning_rate, fedprox_mu=float(settings["fedprox-mu"]),
        quorum=int(settings["quorum"]) or None,
    )  # fmt: skip


def _config(style: LoadedStyle) -> StylizationConfig:
    name = style.manifest.provenance.training.preset
    return preset(name if name in PRESETS else next(iter(PRESETS))).stylization


def _folders(context: Context) -> list[str]:
    return _text(context, "sites").split(os.pathsep)


def _text(context: Context, name: str) -> str:
    if not (found := str(context.run_config.get(name, ""))):
        raise ConfigError(f"the run has no {name}", fix=f"add --run-config '{name}=\"...\"'")
    return found


client_app = make_client_app(_site)
"""The ClientApp of the Flower app."""
