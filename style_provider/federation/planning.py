"""A plan: its numbers are checked against the bundle, and a folder holds what sites and ``serve`` need (F-7, F-25)."""

import hashlib
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from modify_fl.artifacts import LoadedStyle
from modify_fl.bundle import load_style
from modify_fl.config import PRESETS, Subset, preset
from modify_fl.console import Console
from modify_fl.errors import ConfigError, FederationSetupError
from modify_fl.federated.certificates import CA, make_authority, make_server
from modify_fl.federated.coordinator_folder import CoordinatorFolder, CoordinatorSettings
from modify_fl.federated.environment import set_environment
from modify_fl.federated.fab import FAB_SHA256
from modify_fl.federated.journal import append
from modify_fl.federated.kit import COORDINATOR_KEY, KitFile, write_kit_file
from modify_fl.federated.plan import FederationPlan, PrivatePlan, update_norm, write_plan
from modify_fl.federated.site_folder import privacy_of
from modify_fl.federated.site_keys import read_public
from modify_fl.outputs import make_folder
from protocol.provider import ProviderKey, issue_provider_key, read_provider_key, write_provider_key
from protocol.signing import generate_key, save_private_key
from protocol.storage import PRIVATE, atomic_writer, storage_errors
from protocol.trust import TrustStore
from protocol.verify import open_bundle
from style_provider.standin import stand_in

__all__ = ["ADAPTER_KEY", "SECRET_FILE", "TASK_SECRET_FILE", "Numbers", "load_planned", "make_plan", "site_files"]

ADAPTER_KEY = "coordinator.pem"
"""Signs the result; in the private folder."""
SECRET_FILE = "control.secret"  # noqa: S105 - the name of the file
"""Opens the SuperLink's Control API."""
TASK_SECRET_FILE = "tasks.secret"  # noqa: S105 - the name of the file
"""Lets our own process take tasks from the SuperLink."""

_KEY_LIFE = timedelta(days=730)
_LOCAL = ("localhost", "127.0.0.1", "::1")
_NO_PRIVACY = (
    "this plan has no privacy: you would see every update in clear, and faces may be reconstructed from one; sites "
    "must allow that by name"
)
_NO_PRIVACY_MASKED = (
    "this plan has no privacy: masks hide whose a part of the sum is, and nothing of what photos do to the sum; sites "
    "must allow that by name"
)
_MASKED = (
    "secure aggregation is experimental: a round takes four messages, with three sites nobody may drop out of it, and "
    "it protects from a coordinator that keeps to the protocol only"
)


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What the coordinator asked for."""

    rounds: int
    local_steps: int
    batch: int
    learning_rate: float | None
    """That of the bundle's preset where none is given."""
    subset: Subset
    fedprox_mu: float
    max_update_norm: float | None
    """What an honest site keeps by itself where none is given."""
    sites: int | None
    """As many as there are keys, or the quorum, where none is given."""
    quorum: int
    wait_seconds: float
    round_seconds: float
    private: PrivatePlan | None
    secagg: bool
    """Whether updates are masked (F-28)."""


def make_plan(
    bundle: Path, numbers: Numbers, *, provider: Path, sites: Path, address: str, out: Path, console: Console
) -> Mapping[str, object]:
    """Make the coordinator's folder and the kit for sites; it appears whole or not at all.

    Args:
        bundle: The style.
        numbers: What was asked for.
        provider: Public key that the style is signed by.
        sites: Folder for public keys of sites; may be empty yet.
        address: Host and port under which sites reach the coordinator.
        out: The new folder.
        console: Shows what was planned, what a round costs, and what to do next.

    Raises:
        ConfigError: A number makes no sense.
        FederationSetupError: The bundle does not vouch for the app of this installation.
        ProtocolError: The bundle is not acceptable, or a key is none.
        StorageError: The folder exists or cannot be written.
    """
    set_environment()
    from modify_fl.federated.records import Schema  # noqa: PLC0415 - brings in Flower, after the environment (F-4)

    key = read_provider_key(provider)
    style, signer = load_planned(bundle, key)
    names = [path.stem for path in site_files(sites)]
    schema = Schema.of(style, numbers.subset)
    plan = _plan(numbers, style, schema.digest, schema.parameters, keys=len(names))
    _require_vouched(style)
    with storage_errors(out):
        if out.exists():
            raise ConfigError(f"{out} exists", fix="choose another --out; a plan is never changed after it was made")
        make_folder(out.parent)
        staging = Path(tempfile.mkdtemp(prefix=".plan-", dir=out.parent))
    try:
        kit = _write(CoordinatorFolder(staging), plan, address=address, signer=signer)
        CoordinatorFolder(staging).write_settings(
            CoordinatorSettings(
                bundle=str(bundle.resolve()), provider=str(provider.resolve()), sites=str(sites.resolve())
            )
        )
        append(CoordinatorFolder(staging).journal, "planned", kit=kit.digest, plan=plan.digest, bundle=plan.bundle,
               fab_sha256=plan.fab_sha256)  # fmt: skip
        with storage_errors(out):
            staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return _report(console, plan, kit, out=out, sites=sites, names=names, parameters=schema.parameters)


def load_planned(bundle: Path, provider: ProviderKey) -> tuple[LoadedStyle, str]:
    """Return the verified style of a plan, and the fingerprint of its signer.

    Raises:
        ProtocolError: It is not acceptable.
    """
    trust = TrustStore.of(provider)
    with open_bundle(bundle, trust=trust, now=datetime.now(UTC), identity=stand_in(bundle, trust)) as verified:
        return load_style(verified, record=False), verified.signer.fingerprint


def site_files(folder: Path) -> list[Path]:
    """Return the public keys of sites, each checked; the folder is made if need be.

    Raises:
        KeyFileError: A file is no such key.
        StorageError: The folder cannot be made.
    """
    with storage_errors(folder):
        folder.mkdir(exist_ok=True)
    found = sorted(folder.glob("*.pub"))
    for path in found:
        read_public(path)
    return found


def _plan(numbers: Numbers, style: LoadedStyle, schema: str, parameters: int, *, keys: int) -> FederationPlan:
    name = style.manifest.provenance.training.preset
    usual = preset(name if name in PRESETS else next(iter(PRESETS))).stylization.learning_rate
    rate = usual if numbers.learning_rate is None else numbers.learning_rate
    bound = update_norm(learning_rate=rate, local_steps=numbers.local_steps, parameters=parameters)
    return FederationPlan(
        bundle=style.digest, adapter_schema=schema, fab_sha256=FAB_SHA256, subset=numbers.subset,
        rounds=numbers.rounds, local_steps=numbers.local_steps, batch=numbers.batch, learning_rate=rate,
        fedprox_mu=numbers.fedprox_mu, max_update_norm=numbers.max_update_norm or bound,
        sites=numbers.sites or max(keys, numbers.quorum), quorum=numbers.quorum, wait_seconds=numbers.wait_seconds,
        round_seconds=numbers.round_seconds, private=numbers.private, secagg=numbers.secagg,
    )  # fmt: skip


def _require_vouched(style: LoadedStyle) -> None:
    federation = style.manifest.federation
    if FAB_SHA256 not in (federation.fab_sha256 if federation else ()):
        raise FederationSetupError(
            "the bundle does not vouch for the Flower app of this installation",
            why="sites refuse an app whose digest the bundle's provider has not signed (F-8)",
            fix="package the style again with this version, or install the version that packaged it",
        )


def _write(folder: CoordinatorFolder, plan: FederationPlan, *, address: str, signer: str) -> KitFile:
    kit = folder.path / "kit"
    kit.mkdir()
    folder.private.mkdir(mode=0o700)
    authority = make_authority(folder.private)
    host = address.rpartition(":")[0].strip("[]")
    make_server(folder.private, tuple(dict.fromkeys((host, *_LOCAL))))
    now, key = datetime.now(UTC).replace(microsecond=0), generate_key()
    public = issue_provider_key(
        key, name="coordinator of a federation", roles=("adapter",), not_before=now, expires=now + _KEY_LIFE
    )
    save_private_key(folder.private / ADAPTER_KEY, key, None)
    for name in (SECRET_FILE, TASK_SECRET_FILE):
        with atomic_writer(folder.private / name, mode=PRIVATE) as stream:
            stream.write(secrets.token_hex(32).encode())
    write_provider_key(kit / COORDINATOR_KEY, public)
    write_plan(plan, kit)
    with atomic_writer(kit / CA) as stream:
        stream.write(authority)
    file = KitFile(
        address=address, ca_sha256=hashlib.sha256(authority).hexdigest(), plan_sha256=plan.digest, signer=signer,
        coordinator=public.fingerprint,
    )  # fmt: skip
    write_kit_file(kit, file)
    return file


def _report(
    console: Console, plan: FederationPlan, kit: KitFile, *, out: Path, sites: Path, names: list[str], parameters: int
) -> Mapping[str, object]:
    privacy = privacy_of(plan)
    bytes_each = (12 if plan.secagg else 8) * parameters  # masked numbers have 8 bytes on their way up
    console.say(f"kit      {out / 'kit'}  (give this folder to every site)")
    console.say(f"digest   {kit.digest}  (tell it by another channel)")
    console.say(f"sites    {len(names)} of {plan.sites} have sent a key: {', '.join(names) or 'none yet'}")
    console.say(f"rounds   {plan.rounds} of {plan.local_steps} steps, {plan.subset}, {parameters} numbers")
    console.say(
        f"traffic  {bytes_each / 1e6:.2f} MB for each site and round, {plan.rounds * bytes_each / 1e6:.1f} MB in all"
    )
    if privacy.mode == "dp":
        console.say(
            f"privacy  epsilon {privacy.eps_max:.2f} at delta {privacy.delta:g}, unit {privacy.unit}, at each site"
        )
    else:
        console.warn(_NO_PRIVACY_MASKED if plan.secagg else _NO_PRIVACY)
    if plan.secagg:
        console.warn(_MASKED)
    console.say()
    console.say(f"Put the site.pub of each site into {sites}, one name each, then run:")
    console.say(f"  style-provider federate serve {shlex.quote(str(out))}")
    return {
        "plan": out, "kit": out / "kit", "digest": kit.digest, "sites": names, "expected": plan.sites,
        "parameters": parameters, "bytes_per_site_and_round": bytes_each, "rounds": plan.rounds,
        "privacy": {"mode": privacy.mode, "epsilon": privacy.eps_max, "delta": privacy.delta, "unit": privacy.unit},
        "secagg": plan.secagg,
    }  # fmt: skip
