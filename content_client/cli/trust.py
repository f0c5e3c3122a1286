"""``content-client trust``: whose bundles are accepted on this machine (B-34 to B-37)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from modify_fl.console import Console, Verbosity, run_command
from modify_fl.errors import ConfigError
from modify_fl.options import DebugOption, JsonOption, QuietOption, VerboseOption, new_program
from protocol.errors import UntrustedKeyError
from protocol.provider import ProviderKey, read_provider_key
from protocol.trust import PinnedKey, TrustStore

__all__ = ["trust"]

trust = new_program("Accept, list and remove keys of style providers.")


def _console(command: str, as_json: bool, quiet: bool, verbose: int, debug: bool) -> Console:
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    return Console("content-client", f"trust {command}", verbosity)


@trust.command("add")
def _add(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    fingerprint: Annotated[
        str | None,
        typer.Option("--fingerprint", metavar="SHA256:...", help="As the provider told you, by another channel."),
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", metavar="TEXT", help="Your name for the provider.", show_default="its own")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Accept a provider's key.

    FILE is the provider's .mdfykey file. Compare the fingerprint that is shown
    with what the provider told you by another channel, or give it here.
    """
    console = _console("add", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        key = read_provider_key(file)
        if fingerprint is None:
            _ask(console, key, file)
        elif fingerprint != key.fingerprint:
            raise UntrustedKeyError(
                "the fingerprint is not that of the key file",
                why="the file was exchanged on its way, or the fingerprint belongs to another key",
                fix="ask the provider for both again, by two different channels",
                expected=fingerprint, got=key.fingerprint,
            )  # fmt: skip
        pin = TrustStore.default().add(key, label=label)
        console.say(f"accepted {pin.label} for {_kinds(pin)}")
        console.say(f"fingerprint  {pin.fingerprint}")
        return _record(pin)

    return run_command(console, action)


def _ask(console: Console, key: ProviderKey, file: Path) -> None:
    """Show the fingerprint and ask; without a terminal it has to be given (B-34)."""
    line = f"content-client trust add {file} --fingerprint {key.fingerprint}"
    advice = f"compare this fingerprint with the provider by another channel, then run\n{line}"
    console.note(f"the key says it belongs to {key.name}; its fingerprint is\n  {key.fingerprint}")
    if not console.confirm("did the provider tell you the same fingerprint by another channel?", otherwise=advice):
        raise UntrustedKeyError("the key was not accepted", why="the question was not answered with yes", fix=advice)


@trust.command("list")
def _list(
    as_json: JsonOption = False, quiet: QuietOption = False, verbose: VerboseOption = 0, debug: DebugOption = False
) -> int:
    """List the accepted keys."""
    console = _console("list", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        pins = TrustStore.default().list()
        width = max((len(pin.label) for pin in pins), default=0)
        for pin in pins:
            console.say(f"{pin.label:<{width}}  {_kinds(pin):<12}  {pin.key.expires:%Y-%m-%d}  {pin.fingerprint}")
        if not pins:
            console.say("no key is accepted yet")
        return {"keys": [_record(pin) for pin in pins]}

    return run_command(console, action)


@trust.command("remove")
def _remove(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Stop accepting a key.

    NAME is its label, or its whole fingerprint.
    """
    console = _console("remove", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        if not name:
            raise ConfigError("no key is named", fix="content-client trust list")
        pin = TrustStore.default().remove(name)
        console.say(f"removed {pin.label}")
        return _record(pin)

    return run_command(console, action)


def _kinds(pin: PinnedKey) -> str:
    names = {"style": "styles", "adapter": "own adapters"}
    return " and ".join(names[role] for role in pin.roles)


def _record(pin: PinnedKey) -> dict[str, object]:
    return {
        "label": pin.label, "fingerprint": pin.fingerprint, "provider_id": pin.provider_id,
        "roles": list(pin.roles), "expires": pin.key.expires.isoformat(),
    }  # fmt: skip
