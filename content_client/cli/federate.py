"""``content-client federate``: a site of a federation (design/federation.md, section 8)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from content_client.cli.federate_simulate import simulate
from content_client.identity import own_identity
from content_client.photos import default_photos
from modify_fl.config import Precision, Runtime
from modify_fl.console import Console, Verbosity, run_command
from modify_fl.errors import ConfigError
from modify_fl.options import (
    BundleOption,
    DebugOption,
    DeviceOption,
    IdentityOption,
    JsonOption,
    PassphraseFileOption,
    PrecisionOption,
    QuietOption,
    ThreadsOption,
    VerboseOption,
    new_program,
)
from modify_fl.ready import bundle_path

if TYPE_CHECKING:
    from content_client.federation.enrolment import Checked

__all__ = ["federate"]

_PATIENCE = 60.0

federate = new_program("Adapt a style together with other sites; photos stay here.")

federate.command("simulate")(simulate)

_KitArgument = Annotated[Path, typer.Argument(metavar="KIT", help="The folder that the coordinator gave you.")]
_SiteOption = Annotated[Path, typer.Option("--site", metavar="DIR", help="The folder that enroll made.")]
_PhotosOption = Annotated[
    Path | None,
    typer.Option("--photos", metavar="DIR", help="Folder or ZIP file.", show_default="$MODIFY_PHOTOS or ./photos"),
]
_NoAlignOption = Annotated[
    bool, typer.Option("--no-align", help="Photos are aligned faces already: take the central square.")
]


def _console(command: str, as_json: bool, quiet: bool, verbose: int, debug: bool) -> Console:
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    return Console("content-client", f"federate {command}", verbosity)


@federate.command("enroll")
def _enroll(
    kit: _KitArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The new folder of this site.")] = Path("site"),
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="How the coordinator calls this site.")] = "site",
    unprotected: Annotated[
        str | None,
        typer.Option(
            "--allow-unprotected", metavar="REASON", help="Why updates may leave without privacy, if the plan has none."
        ),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Make this site's key and policy for one plan.

    The private key never leaves the folder. Send site.pub to the coordinator, and
    compare the digest of the kit by another channel. The policy is the narrowest
    that the plan fits into; read it, and change it where you allow less.
    """
    console = _console("enroll", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        from content_client.federation.enrolment import enroll

        if not name.isprintable() or not name.strip():
            raise ConfigError("a site needs a name of one line", fix="add --name NAME")
        return enroll(kit, out, name=name, unprotected=unprotected, console=console)

    return run_command(console, action)


@federate.command("preview")
def _preview(
    kit: _KitArgument,
    bundle: BundleOption,
    photos: _PhotosOption = None,
    site: _SiteOption = Path("site"),
    no_align: _NoAlignOption = False,
    identity: IdentityOption = None,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Show what would be sent, at what cost, and who sees what; nothing is sent or spent.

    Policy, kit, bundle and the vault of the photos are checked as join does.
    """
    console = _console("preview", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        from content_client.federation.enrolment import preview

        own = (identity, passphrase_file)
        checked = _checked(console, kit, bundle, photos, site, align=not no_align, own=own)
        return preview(checked, console)

    return run_command(console, action)


@federate.command("join")
def _join(
    kit: _KitArgument,
    bundle: BundleOption,
    photos: _PhotosOption = None,
    site: _SiteOption = Path("site"),
    no_align: _NoAlignOption = False,
    once: Annotated[
        bool, typer.Option("--once", help="End when the connection does, instead of trying again.")
    ] = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    precision: PrecisionOption = "auto",
    identity: IdentityOption = None,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Take part in the rounds of a coordinator.

    Starts a SuperNode that runs the installed program only, whatever the
    coordinator sends, and only as far as the policy allows it. Ends when the last
    round was answered and the coordinator has gone, or with content-client
    federate leave, or with Ctrl-C. The same command joins again.
    """
    console = _console("join", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        from content_client.federation.enrolment import preview
        from content_client.federation.joining import join

        own = (identity, passphrase_file)
        runtime = Runtime(device=device, threads=threads, precision=cast("Precision", precision))
        checked = _checked(console, kit, bundle, photos, site, align=not no_align, own=own, runtime=runtime)
        shown = preview(checked, console)
        return {**shown, **join(checked, console, once=once)}

    return run_command(console, action)


def _checked(
    console: Console, kit: Path, bundle: Path, photos: Path | None, site: Path, *, align: bool,
    own: tuple[Path | None, Path | None], runtime: Runtime | None = None,
) -> "Checked":  # fmt: skip
    from content_client.federation.enrolment import check_site
    from modify_fl.federated.site_folder import SiteFolder, SiteSettings

    source, runtime = photos or default_photos(), runtime or Runtime()
    settings = SiteSettings(
        bundle=str(bundle_path(bundle).resolve()), photos=str(source.resolve()), align=align,
        device=runtime.device, threads=runtime.threads, precision=runtime.precision,
    )  # fmt: skip
    return check_site(SiteFolder(site.resolve()), kit, settings, own_identity(*own, console.ask_secret), console)


@federate.command("status")
def _status(
    site: _SiteOption = Path("site"),
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Show this site's own log: rounds, bytes, norms, what was refused, and what was spent."""
    console = _console("status", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        from content_client.federation.status import show_status
        from modify_fl.federated.site_folder import SiteFolder

        return show_status(SiteFolder(site.resolve()), console)

    return run_command(console, action)


@federate.command("leave")
def _leave(
    site: _SiteOption = Path("site"),
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """End what join has started on this machine; the same join command comes back later."""
    console = _console("leave", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        from modify_fl.federated.holder import ask_to_end

        if not site.is_dir():
            raise ConfigError(f"there is no folder {site}", fix="name the site with --site")
        found = ask_to_end(site.resolve(), patience=_PATIENCE)
        console.say("left" if found else "this site had not joined")
        return {"site": site, "left": found}

    return run_command(console, action)
