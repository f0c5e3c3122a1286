"""``content-client federate simulate``: all roles of a federation on this machine (design/federation.md, section 8)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from content_client.cli.adapt import recipe_of, split_changes
from content_client.cli.private_options import (
    AcceptOption,
    AugmentationsOption,
    BatchOption,
    ClipOption,
    DeltaOption,
    EpsilonOption,
    PhotosNumberOption,
    PrivacyOption,
    PrivateWords,
)
from content_client.identity import own_identity
from modify_fl.config import Precision, Runtime
from modify_fl.console import Console, Verbosity, run_command
from modify_fl.errors import ConfigError
from modify_fl.options import (
    DebugOption,
    DeviceOption,
    DryRunOption,
    FreshOption,
    IdentityOption,
    JsonOption,
    OverwriteOption,
    PassphraseFileOption,
    PrecisionOption,
    QuietOption,
    RequireOption,
    SeedOption,
    SetOption,
    ThreadsOption,
    VerboseOption,
)
from modify_fl.outputs import refuse_existing, require_folder
from modify_fl.passphrase import known_passphrase
from modify_fl.ready import bundle_path, demo_advice

if TYPE_CHECKING:
    from content_client.federation.simulated_sites import Ground
    from modify_fl.artifacts import LoadedStyle

__all__ = ["simulate"]

_PLANNED = ("batch=", "learning_rate=", "subset=")


def simulate(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The style: a .mdfy file or a shipped name.")],
    site: Annotated[
        list[Path] | None, typer.Option("--site", metavar="DIR", help="Photos of one site; repeat for each site.")
    ] = None,
    sites: Annotated[
        int | None, typer.Option("--sites", metavar="N", min=2, help="Deal the photos of --photos out to N sites.")
    ] = None,
    photos: Annotated[
        str | None, typer.Option("--photos", metavar="DIR", help="Folder, ZIP file or demo that --sites deals out.")
    ] = None,
    concentration: Annotated[
        float, typer.Option("--concentration", metavar="A", help="Of --sites: small makes sites differ, large alike.")
    ] = 0.5,
    rounds: Annotated[int, typer.Option("--rounds", metavar="R", min=1, help="Rounds of the whole run.")] = 10,
    local_steps: Annotated[
        int, typer.Option("--local-steps", metavar="K", min=1, help="Steps of a site in one round.")
    ] = 50,
    subset: Annotated[
        str | None,
        typer.Option("--subset", metavar="PART", help="heads, lora or all.", show_default="preset; with dp: lora"),
    ] = None,
    fedprox: Annotated[
        float, typer.Option("--fedprox", metavar="MU", min=0, help="Weight that holds sites near the model; 0: FedAvg.")
    ] = 0.0,
    quorum: Annotated[
        int | None,
        typer.Option("--quorum", metavar="Q", min=1, help="Fewest sites of a round.", show_default="3, or all of 2"),
    ] = None,
    longest: Annotated[
        float | None,
        typer.Option(
            "--max-update-norm", metavar="L", help="A longer update is shortened.", show_default="what Adam can move"
        ),
    ] = None,
    secagg: Annotated[
        bool, typer.Option("--secagg", help="Experimental: mask updates, only their sum is read; 3 sites or more.")
    ] = False,
    backend: Annotated[
        str, typer.Option("--backend", metavar="NAME", help="local: in this process; ray: Flower's own simulation.")
    ] = "local",
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The adapter, .mdfa.")] = Path("federated.mdfa"),
    no_align: Annotated[
        bool, typer.Option("--no-align", help="Photos are aligned faces already: take the central square.")
    ] = False,
    seed: SeedOption = 0,
    privacy: PrivacyOption = "none",
    epsilon: EpsilonOption = None,
    delta: DeltaOption = None,
    n_public: PhotosNumberOption = None,
    batch: BatchOption = None,
    clip: ClipOption = None,
    augmentations: AugmentationsOption = 1,
    accept: AcceptOption = False,
    identity: IdentityOption = None,
    passphrase_file: PassphraseFileOption = None,
    require: RequireOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    precision: PrecisionOption = "auto",
    settings: SetOption = None,
    fresh: FreshOption = False,
    dry_run: DryRunOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Let several sites on this machine adapt one encoder together.

    Every site trains on its own photos; what it would send is checked, shortened
    and averaged as over a network, by the same apps. The result is one adapter
    (.mdfa). Without --privacy dp nothing is guaranteed about the photos, and it stays
    on this machine; with it, every --site must be a vault (content-client privacy
    init), each round is charged there, and the adapter may be shared.
    The same command goes on after the last finished round.
    """
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    console = Console("content-client", "federate simulate", verbosity)
    words = PrivateWords(
        privacy=privacy, epsilon=epsilon, delta=delta, n_public=n_public, batch=batch,
        steps=rounds * local_steps if privacy == "dp" else None, schedule="default", clip=clip, unit=None, persons=None,
        augmentations=augmentations, engine="micro", public=None, accept=accept,
    )  # fmt: skip

    def action() -> Mapping[str, object]:
        private = words.wanted(mode="offline", tensorboard=None)
        ray = _require_backend(backend, private=private, secagg=secagg, changes=settings or [])
        _require_sites(site, sites, photos)
        part = subset or ("lora" if private else None)  # P-51
        changes, recipe = split_changes([*(settings or []), *([f"subset={part}"] if part else [])], private=private)
        own = own_identity(identity, passphrase_file, console.ask_secret)
        file = bundle_path(bundle)
        config = recipe_of(file, own, changes)
        request = words.request(changes=recipe, budget=None, align=not no_align) if private else None
        if not dry_run:
            refuse_existing([out], overwrite=overwrite)
        require_folder(out.parent)

        from modify_fl.federated.environment import set_environment

        set_environment()  # before anything imports Flower (F-4)
        from content_client.adaptation import open_style
        from content_client.federation.simulation import Simulation, run_simulation
        from modify_fl.federated.ray_backend import require_ray

        if ray:
            require_ray()

        with demo_advice(file):
            style = open_style(file, console, identity=own, record=not dry_run)
        task = Simulation(
            style=style, bundle=file, config=config, rounds=rounds, local_steps=local_steps, fedprox_mu=fedprox,
            grounds=_grounds(style, site, sites, photos, console, align=not no_align, spread=(concentration, seed)),
            quorum=quorum, max_update_norm=longest, seed=seed, require=require, out=out, overwrite=overwrite,
            runtime=Runtime(device=device, threads=threads, precision=cast("Precision", precision)), request=request,
            ask=lambda question: known_passphrase(passphrase_file) or console.ask_secret(question),
            ray=ray, align=not no_align, secagg=secagg,
        )  # fmt: skip
        return run_simulation(task, fresh=fresh, dry_run=dry_run, console=console)

    return run_command(console, action)


def _grounds(
    style: "LoadedStyle", folders: list[Path] | None, count: int | None, photos: str | None, console: Console, *,
    align: bool, spread: tuple[float, int],
) -> "list[Ground]":  # fmt: skip
    from content_client.adaptation import read_photos
    from content_client.federation.simulated_sites import deal_grounds, read_grounds

    if folders:
        return read_grounds(style, folders, console, align=align)
    assert count is not None  # noqa: S101 - one of the two was asked for
    assert photos is not None  # noqa: S101
    concentration, seed = spread
    images = read_photos(style, photos, console, align=align)
    return deal_grounds(images, count, concentration=concentration, seed=seed)


def _require_sites(folders: list[Path] | None, count: int | None, photos: str | None) -> None:
    if folders and (count or photos):
        raise ConfigError("sites are named or dealt out, not both", fix="use --site DIR ..., or --sites N --photos DIR")
    if not folders and not (count and photos):
        raise ConfigError(
            "it is not said whose photos take part",
            fix="use --site DIR --site DIR --site DIR, or --sites 3 --photos DIR",
        )


def _require_backend(name: str, *, private: bool, secagg: bool, changes: list[str]) -> bool:
    """Return whether Ray is asked for."""
    if name not in {"local", "ray"}:
        raise ConfigError(f"no backend is called {name}", fix="use --backend local or --backend ray")
    if name == "ray" and secagg:
        raise ConfigError("--secagg does not go with --backend ray", why="it was not tried", fix="use --backend local")
    own = [change for change in changes if not change.removeprefix("stylization.").startswith(_PLANNED)]
    if name == "ray" and (private or own):
        raise ConfigError(
            f"{'--privacy dp' if private else own[0]} does not go with --backend ray",
            why="Ray's processes take the preset's weights and what the plan says",
            fix="use --backend local",
        )
    return name == "ray"
