"""``content-client trust``: whose bundles are accepted on this machine (B-34 to B-43)."""

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from content_client.cli.trust_files import identity, update
from content_client.cli.trust_show import kinds, record_of_key, show_provider
from modify_fl.console import Console, Verbosity, run_command
from modify_fl.errors import ConfigError
from modify_fl.options import DebugOption, JsonOption, QuietOption, VerboseOption, new_program
from modify_fl.ready import DEMO_KEY, ready_bundles
from protocol.errors import UntrustedKeyError
from protocol.pins import PinnedKey, Provider
from protocol.policy import fingerprint_of
from protocol.provider import ProviderKey, read_provider_key
from protocol.trust import TrustStore

__all__ = ["trust"]

trust = new_program("Accept style providers, and keep up with their keys and revocations.")


def _console(command: str, as_json: bool, quiet: bool, verbose: int, debug: bool) -> Console:
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    return Console("content-client", f"trust {command}", verbosity)


@trust.command("add")
def _add(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]")] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Accept the key of the styles that came with this package instead.")
    ] = False,
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
    With --demo no file is named: the key came with the program.
    """
    console = _console("add", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        if (file is None) != demo:
            raise ConfigError("a key file or --demo is needed, and not both", fix="content-client trust add --demo")
        key = read_provider_key(file or DEMO_KEY)
        store = TrustStore.default()
        if demo:
            _explain_demo(console, key)
        if key.serial > 1 and store.find(key.hint) is None:
            _warn_of_claim(console, key)
        if fingerprint is None:
            if file is not None:
                _ask(console, key, file)
        elif fingerprint != key.fingerprint:
            raise _another_fingerprint(fingerprint, key, file or DEMO_KEY)
        pin = store.add(key, label=label)
        console.say(f"accepted {pin.label} for {kinds(pin)}")
        console.say(f"fingerprint  {pin.fingerprint}")
        _warn_of_key(console, pin)
        _warn(console, store)
        return {**record_of_key(pin), "provider_id": pin.provider_id, "label": pin.label, "roles": list(pin.roles)}

    return run_command(console, action)


def _explain_demo(console: Console, key: ProviderKey) -> None:
    """Say what the acceptance is worth: no other channel is there to compare with."""
    console.note(f"the key of the styles that came with this program: {', '.join(ready_bundles())}")
    console.note(f"whoever gave you the program gave you the key {key.fingerprint} too; its private half was destroyed")


def _warn_of_claim(console: Console, key: ProviderKey) -> None:
    """Say what a file cannot show: who endorsed the key is known only to who has the key before it (B-36)."""
    first = fingerprint_of(key.provider_id)
    console.warn(
        f"the key claims to be number {key.serial} of the provider whose first key is {first}, which nothing proves"
    )


def _ask(console: Console, key: ProviderKey, file: Path) -> None:
    """Show the fingerprint and ask; without a terminal it has to be given (B-34)."""
    advice = f"compare this fingerprint with the provider by another channel, then run\n{_line(key, file)}"
    console.show(f"the key says it belongs to {key.name}; its fingerprint is\n  {key.fingerprint}")
    if not console.confirm("did the provider tell you the same fingerprint by another channel?", otherwise=advice):
        raise UntrustedKeyError("the key was not accepted", why="the question was not answered with yes", fix=advice)


def _line(key: ProviderKey, file: Path) -> str:
    return f"content-client trust add {shlex.quote(str(file))} --fingerprint {key.fingerprint}"


def _another_fingerprint(given: str, key: ProviderKey, file: Path) -> UntrustedKeyError:
    """Return the error about a fingerprint that is not that of the key file; it need not mean that somebody cheats."""
    if given == fingerprint_of(key.provider_id):
        return UntrustedKeyError(
            "the fingerprint is that of the provider's first key, and the file holds a later one",
            why=f"the file says that it is key {key.serial} of this provider; its own fingerprint is {key.fingerprint}",
            fix=f"compare that one with the provider by another channel, then run\n{_line(key, file)}",
            expected=given, got=key.fingerprint,
        )  # fmt: skip
    return UntrustedKeyError(
        "the fingerprint is not that of the key file",
        why="the file was exchanged on its way, or the fingerprint belongs to another key",
        fix="ask the provider for both again, by two different channels",
        expected=given, got=key.fingerprint,
    )  # fmt: skip


def _warn_of_key(console: Console, pin: PinnedKey) -> None:
    """Say at once what would be found out with the first bundle only."""
    if pin.retired_from:
        console.warn(f"{pin.label} signs with another key since {pin.retired_from:%Y-%m-%d}")


def _warn(console: Console, store: TrustStore) -> None:
    for warning in store.warnings(datetime.now(UTC)):
        console.warn(warning)


@trust.command("list")
def _list(
    as_json: JsonOption = False, quiet: QuietOption = False, verbose: VerboseOption = 0, debug: DebugOption = False
) -> int:
    """List the accepted providers, each with its newest key."""
    console = _console("list", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        store = TrustStore.default()
        chains = {provider.provider_id: provider for provider in store.providers()}
        newest = {pin.provider_id: pin for pin in store.list()}  # the last one of each provider stays
        width = max((len(pin.label) for pin in newest.values()), default=0)
        for pin in newest.values():
            marks = "  ".join(_marks(pin, len(chains[pin.provider_id].keys) - 1))
            line = f"{pin.label:<{width}}  {kinds(pin):<12}  key {pin.key.serial}  {pin.key.expires:%Y-%m-%d}"
            console.say(f"{line}  {pin.fingerprint}  {marks}".rstrip())
        if not newest:
            console.say("no key is accepted yet")
        _warn(console, store)
        return {"providers": [_overview(chains[pin.provider_id], pin) for pin in newest.values()]}

    return run_command(console, action)


def _marks(pin: PinnedKey, retired: int) -> list[str]:
    marks = {
        "DISPUTED": pin.disputed,
        "REVOKED": pin.revoked is not None,
        "expired": pin.key.expires < datetime.now(UTC),
        f"{retired} retired": retired > 0,
    }
    return [mark for mark, holds in marks.items() if holds]


def _overview(provider: Provider, newest: PinnedKey) -> dict[str, object]:
    return {
        "label": provider.label, "roles": list(provider.roles), "provider_id": provider.provider_id,
        **record_of_key(newest), "disputed": provider.disputed, "retired": len(provider.keys) - 1,
    }  # fmt: skip


@trust.command("show")
def _show(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Show all that is known of one accepted provider.

    NAME is its label, or the whole fingerprint of one of its keys.
    """
    console = _console("show", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        store = TrustStore.default()
        result = show_provider(console, store, store.provider(name))
        _warn(console, store)
        return result

    return run_command(console, action)


@trust.command("remove")
def _remove(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Stop accepting a provider.

    NAME is its label, or the whole fingerprint of one of its keys. What it has
    revoked, and which of its bundles were used, is remembered.
    """
    console = _console("remove", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        if not name:
            raise ConfigError("no key is named", fix="content-client trust list")
        store = TrustStore.default()
        removed = store.remove(name)
        console.say(f"removed {removed.label}")
        _warn(console, store)
        return {
            "label": removed.label, "provider_id": removed.provider_id, "fingerprints": list(removed.fingerprints)
        }  # fmt: skip

    return run_command(console, action)


trust.command("update")(update)
trust.command("identity")(identity)
trust.command("keygen", hidden=True)(identity)
