"""``style-provider key``: look at, hand out, protect, replace and end signing keys (B-32, B-36 to B-41)."""

import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from modify_fl.console import Console, Verbosity, run_command
from modify_fl.errors import ConfigError
from modify_fl.options import DebugOption, JsonOption, OverwriteOption, QuietOption, VerboseOption, new_program
from modify_fl.passphrase import Ask, new_passphrase
from protocol.errors import StorageError
from protocol.provider import ProviderKey, read_provider_key, write_provider_key
from protocol.revocation import self_revocation, write_revocation
from style_provider.key_files import (
    KeyFiles,
    change_passphrase,
    check_free,
    parse_life,
    rotate_pair,
    store_successor,
    whole_seconds,
)
from style_provider.keys import load_pair, load_private, public_path
from style_provider.revocations import Additions, announce, extend_list, renew_list

__all__ = ["key"]

key = new_program("Show, export, protect, replace and revoke signing keys.")

_KeyArgument = Annotated[Path, typer.Argument(metavar="KEY")]
_PassphraseOption = Annotated[
    Path | None, typer.Option("--passphrase-file", metavar="FILE", help="Its first line is the passphrase of KEY.")
]
_NewPassphraseOption = Annotated[
    Path | None, typer.Option("--new-passphrase-file", metavar="FILE", help="Its first line is the new passphrase.")
]
_NoPassphraseOption = Annotated[
    bool, typer.Option("--no-passphrase", help="Leave the private key unprotected, but for its file mode.")
]


def _console(command: str, as_json: bool, quiet: bool, verbose: int, debug: bool) -> Console:
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    return Console("style-provider", f"key {command}", verbosity)


@key.command("show")
def _show(
    file: _KeyArgument,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Show what clients know about a key.

    KEY is a .pem, .pem.age or .mdfykey file. No passphrase is needed.
    """
    console = _console("show", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        provider = read_provider_key(public_path(file))
        record = _record(provider)
        for label, value in record.items():
            shown = ", ".join(provider.roles) if label == "roles" else value
            console.say(f"{label.replace('_', ' '):<13}{shown or '-'}")
        if whole_seconds() > provider.expires:
            console.warn("this key has expired")
        return record

    return run_command(console, action)


@key.command("export")
def _export(
    file: _KeyArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the public key goes.")],
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Write the public key, for clients, to another place.

    KEY is a .pem, .pem.age or .mdfykey file. No passphrase is needed.
    """
    console = _console("export", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        provider = read_provider_key(public_path(file))
        write_provider_key(out, provider, overwrite=overwrite)
        line = shlex.join(["content-client", "trust", "add", out.name, "--fingerprint", provider.fingerprint])
        console.say(f"public key   {out}  (give this file to your clients)")
        console.say(f"fingerprint  {provider.fingerprint}")
        console.say()
        console.say("Tell clients the fingerprint by another channel than the file. They run:")
        console.say(f"  {line}")
        return {"public_key": out, "fingerprint": provider.fingerprint, "trust_command": line}

    return run_command(console, action)


@key.command("change-passphrase")
def _change(
    file: _KeyArgument,
    passphrase_file: _PassphraseOption = None,
    new_passphrase_file: _NewPassphraseOption = None,
    no_passphrase: _NoPassphraseOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Give a private key another passphrase, or none.

    KEY is a .pem or .pem.age file. MDFY_PASSPHRASE can hold its old passphrase;
    the new one is asked for, or read from a file.
    """
    console = _console("change-passphrase", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        ask_new = _ask_new(console, new_passphrase_file, no_passphrase)
        path, private = load_private(file, passphrase_file, console.ask_secret)
        ask = partial(new_passphrase, question="new passphrase", environment=False)
        passphrase = None if no_passphrase else ask(new_passphrase_file, ask_new)
        now = change_passphrase(path, private, passphrase, overwrite=overwrite)
        console.say(f"private key  {now}  ({'passphrase set' if passphrase else 'no passphrase'})")
        console.say("Copies of the old file, such as those in backups, stay as they are.")
        return {"private_key": now, "protected": passphrase is not None}

    return run_command(console, action)


@key.command("rotate")
def _rotate(
    file: _KeyArgument,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the new files go.", show_default="beside KEY")
    ] = None,
    expires: Annotated[str, typer.Option("--expires", metavar="TIME", help="Life of the key: 2y, 6m or 90d.")] = "2y",
    passphrase_file: _PassphraseOption = None,
    new_passphrase_file: _NewPassphraseOption = None,
    no_passphrase: _NoPassphraseOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Make the key that follows KEY, signed by both.

    KEY is your current .pem or .pem.age file. It gets one successor, whose public
    file is put beside it too. Bundles that it has signed stay usable; new ones
    need the new key. A key that was stolen must be revoked, not rotated only.
    MDFY_PASSPHRASE counts for both keys.
    """
    console = _console("rotate", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        life, ask_new = parse_life(expires), _ask_new(console, new_passphrase_file, no_passphrase)
        pair = load_pair(file, passphrase_file, console.ask_secret)
        files, new = rotate_pair(file, pair, out or file.parent, life, protected=not no_passphrase)
        check_free(files, overwrite=overwrite)
        renewed, place = renew_list(file, new, files.public)
        passphrase = None if no_passphrase else new_passphrase(new_passphrase_file, ask_new)
        store_successor(file, files, new, passphrase, overwrite=overwrite)
        if renewed:
            write_revocation(place, renewed, overwrite=True)
        return _report(console, new.provider, files, file.parent, place if renewed else None)

    return run_command(console, action)


@key.command("revoke")
def _revoke(
    file: _KeyArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="What clients are told.")],
    by: Annotated[
        Path | None,
        typer.Option("--by", metavar="CURRENT", help="Your current key, if it is another.", show_default="KEY itself"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The revocation.", show_default="beside the key that signs"),
    ] = None,
    next_update: Annotated[
        str | None,
        typer.Option("--next-update", metavar="TIME", help="With --by: when the next list comes at the latest: 90d."),
    ] = None,
    passphrase_file: Annotated[
        Path | None,
        typer.Option("--passphrase-file", metavar="FILE", help="Its first line is the passphrase of the signing key."),
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """End a key: clients refuse whatever it signed, for good.

    KEY is a .pem or .pem.age file, which then revokes itself, or with --by any
    file of an older key, which then gets onto the list that your current key signs.
    """
    console = _console("revoke", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        wait = parse_life(next_update) if next_update else None
        if by is None:
            if wait:
                raise ConfigError("--next-update needs --by", why="a key that revokes itself issues nothing after that")
            return _end(console, file, reason, out, passphrase_file, overwrite=overwrite)
        provider = read_provider_key(public_path(file))
        pair = load_pair(by, passphrase_file, console.ask_secret)
        _check_pair(provider, pair.provider, file, by)
        added = Additions(keys={provider.fingerprint: reason})
        revocation, place = extend_list(by, pair, added, out=out, next_update=wait)
        return announce(console, revocation, place)

    return run_command(console, action)


def _ask_new(console: Console, new_passphrase_file: Path | None, no_passphrase: bool) -> Ask:
    """Return what asks for a new passphrase, beside an old one."""
    if no_passphrase and new_passphrase_file:
        raise ConfigError("--no-passphrase contradicts --new-passphrase-file", fix="leave one of them away")
    return partial(console.ask_secret, otherwise="name a file with --new-passphrase-file, or type --no-passphrase")


def _record(provider: ProviderKey) -> dict[str, object]:
    return {
        "name": provider.name, "contact": provider.contact, "provider_id": provider.provider_id,
        "serial": provider.serial, "fingerprint": provider.fingerprint, "roles": list(provider.roles),
        "not_before": provider.not_before.isoformat(), "expires": provider.expires.isoformat(),
        "previous": provider.previous,
    }  # fmt: skip


def _report(
    console: Console, provider: ProviderKey, files: KeyFiles, old: Path, renewed: Path | None
) -> Mapping[str, object]:
    names = [files.public.name, *([renewed.name] if renewed else [])]
    line = shlex.join(["content-client", "trust", "update", *names])
    console.say(f"private key  {files.private}  (sign with this one from now on; keep it to yourself)")
    console.say(f"public key   {files.public}  (give this file to your clients)")
    console.say(f"revocation   {files.revocation}  (keep it elsewhere, and to yourself)")
    if renewed:
        console.say(f"your list    {renewed}  (signed anew by this key; give this file to your clients)")
    console.say(f"fingerprint  {provider.fingerprint}")
    console.say(f"expires      {provider.expires:%Y-%m-%d}")
    console.say()
    console.say("Clients who accepted the key before run:")
    console.say(f"  {line}")
    if files.public.parent.absolute() != old.absolute():
        console.note(f"keep the .mdfykey and .mdfyrev files of {old} beside the new key: revoking needs them")
    return {
        "private_key": files.private, "public_key": files.public, "revocation": files.revocation,
        "fingerprint": provider.fingerprint, "provider_id": provider.provider_id, "serial": provider.serial,
        "expires": provider.expires.isoformat(), "update_command": line, "list": renewed,
    }  # fmt: skip


def _end(
    console: Console, file: Path, reason: str, out: Path | None, passphrase_file: Path | None, *, overwrite: bool
) -> Mapping[str, object]:
    """Let a key revoke itself; without --out where keygen has put such a file already."""
    target = out or KeyFiles.beside(file).revocation
    if target.exists() and not overwrite:
        why = "a key that was made here has a revocation of itself from the start" if out is None else ""
        fix = "give that file to your clients, choose another --out, or add --overwrite to state this reason"
        raise StorageError(f"{target} exists", why=why, fix=fix)
    pair = load_pair(file, passphrase_file, console.ask_secret)
    revocation = self_revocation(pair.private, pair.provider, reason=reason, issued=whole_seconds())
    write_revocation(target, revocation, overwrite=overwrite)
    return announce(console, revocation, target)


def _check_pair(provider: ProviderKey, current: ProviderKey, file: Path, by: Path) -> None:
    if provider.provider_id != current.provider_id:
        raise ConfigError(f"{file.name} and {by.name} are keys of two providers", fix="name two keys of one provider")
    if provider.fingerprint == current.fingerprint:
        raise ConfigError(f"{file.name} is the current key itself", fix="leave --by away: a key may revoke itself")
