"""``style-provider keygen``: a signing key, what clients pin, and what ends it (B-32, B-36, B-41)."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from modify_fl.console import Console, Verbosity, run_command
from modify_fl.options import DebugOption, JsonOption, OverwriteOption, QuietOption, VerboseOption
from modify_fl.passphrase import new_passphrase
from protocol.provider import ProviderKey, issue_provider_key
from protocol.signing import generate_key
from style_provider.key_files import KeyFiles, check_free, parse_life, store_pair, whole_seconds
from style_provider.keys import KeyPair, key_folder, slug

__all__ = ["keygen"]


def keygen(
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="How clients see you, such as a studio's name.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where the key files go.", show_default="./keys or config folder"),
    ] = None,
    contact: Annotated[str, typer.Option("--contact", metavar="TEXT", help="How clients reach you.")] = "",
    expires: Annotated[str, typer.Option("--expires", metavar="TIME", help="Life of the key: 2y, 6m or 90d.")] = "2y",
    passphrase_file: Annotated[
        Path | None, typer.Option("--passphrase-file", metavar="FILE", help="Its first line is the passphrase.")
    ] = None,
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Leave the private key unprotected, but for its file mode.")
    ] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Make a signing key and the public key file for clients.

    Writes NAME.pem (private; NAME.pem.age with a passphrase), NAME.mdfykey
    (public) and NAME.revoke.mdfyrev (ends the key for good). The passphrase is
    asked for, read from a file, or taken from MDFY_PASSPHRASE.
    """
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    console = Console("style-provider", "keygen", verbosity)

    def action() -> Mapping[str, object]:
        life = parse_life(expires)
        files = KeyFiles.of(out or key_folder(), slug(name), protected=not no_passphrase)
        check_free(files, overwrite=overwrite)
        passphrase = None if no_passphrase else new_passphrase(passphrase_file, console.ask_secret)
        key, now = generate_key(), whole_seconds()
        provider = issue_provider_key(
            key, name=name, contact=contact, roles=("style",), not_before=now, expires=now + life
        )
        store_pair(files, KeyPair(private=key, provider=provider), passphrase, overwrite=overwrite)
        return _report(console, provider, files, protected=passphrase is not None)

    return run_command(console, action)


def _report(console: Console, provider: ProviderKey, files: KeyFiles, *, protected: bool) -> Mapping[str, object]:
    line = shlex.join(["content-client", "trust", "add", files.public.name, "--fingerprint", provider.fingerprint])
    state = "passphrase set" if protected else "no passphrase"
    console.say(f"private key  {files.private}  ({state}; keep it to yourself)")
    console.say(f"public key   {files.public}  (give this file to your clients)")
    console.say(f"revocation   {files.revocation}  (keep it elsewhere, and to yourself)")
    console.say(f"fingerprint  {provider.fingerprint}")
    console.say(f"expires      {provider.expires:%Y-%m-%d}")
    console.say()
    console.say("Tell clients the fingerprint by another channel than the file. They run:")
    console.say(f"  {line}")
    console.say(f"Keep a copy of {files.private.name} on a medium that is not in this computer: without it you cannot")
    console.say("sign a new version, and who has it can sign in your name.")
    console.say(f"Move {files.revocation.name} to another such medium: if the key is stolen or lost, clients who get")
    console.say("this file refuse the key for good.")
    return {
        "private_key": files.private, "public_key": files.public, "revocation": files.revocation,
        "fingerprint": provider.fingerprint, "provider_id": provider.provider_id,
        "expires": provider.expires.isoformat(), "trust_command": line,
    }  # fmt: skip
