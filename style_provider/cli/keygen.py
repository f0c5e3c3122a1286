"""``style-provider keygen``: a signing key and what clients pin (B-32, B-36)."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from modify_fl.console import Console, Verbosity, run_command
from modify_fl.errors import ConfigError
from modify_fl.options import DebugOption, JsonOption, OverwriteOption, QuietOption, VerboseOption
from modify_fl.passphrase import new_passphrase
from protocol.errors import StorageError
from protocol.provider import ProviderKey, issue_provider_key, write_provider_key
from protocol.signing import generate_key, save_private_key
from style_provider.keys import PUBLIC_SUFFIX, key_folder, slug

__all__ = ["keygen"]

_DAYS = {"d": 1, "m": 30, "y": 365}


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

    Writes NAME.pem (private; NAME.pem.age with a passphrase) and NAME.mdfykey
    (public). The passphrase is asked for, read from a file, or taken from
    MDFY_PASSPHRASE.
    """
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    console = Console("style-provider", "keygen", verbosity)

    def action() -> Mapping[str, object]:
        life = _life(expires)
        passphrase = None if no_passphrase else new_passphrase(passphrase_file, console.ask_secret)
        return _make(console, name, contact, life, out or key_folder(), passphrase, overwrite=overwrite)

    return run_command(console, action)


def _life(text: str) -> timedelta:
    match = re.fullmatch(r"([1-9]\d{0,4})([dmy])", text.strip().lower())
    if match is None:
        raise ConfigError(f"cannot read the life {text!r}", fix="write it like 2y, 6m or 90d")
    return timedelta(days=int(match[1]) * _DAYS[match[2]])


def _make(
    console: Console, name: str, contact: str, life: timedelta, folder: Path, passphrase: str | None, *, overwrite: bool
) -> Mapping[str, object]:
    stem = slug(name)
    private = folder / f"{stem}.pem{'' if passphrase is None else '.age'}"
    public = folder / f"{stem}{PUBLIC_SUFFIX}"
    existing = [path for path in (folder / f"{stem}.pem", folder / f"{stem}.pem.age", public) if path.exists()]
    if existing and not overwrite:
        fix = "choose another name or folder; --overwrite would destroy the old key for good"
        raise StorageError(f"{existing[0]} exists", why="a key is never replaced silently", fix=fix)
    key, now = generate_key(), datetime.now(UTC).replace(microsecond=0)
    provider = issue_provider_key(key, name=name, contact=contact, roles=("style",), not_before=now, expires=now + life)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    save_private_key(private, key, passphrase, overwrite=overwrite)
    write_provider_key(public, provider, overwrite=overwrite)
    return _report(console, provider, private, public, protected=passphrase is not None)


def _report(
    console: Console, provider: ProviderKey, private: Path, public: Path, *, protected: bool
) -> Mapping[str, object]:
    line = f"content-client trust add {public.name} --fingerprint {provider.fingerprint}"
    console.say(f"private key  {private}  ({'passphrase set' if protected else 'no passphrase'}; keep it to yourself)")
    console.say(f"public key   {public}  (give this file to your clients)")
    console.say(f"fingerprint  {provider.fingerprint}")
    console.say(f"expires      {provider.expires:%Y-%m-%d}")
    console.say()
    console.say("Tell clients the fingerprint by another channel than the file. They run:")
    console.say(f"  {line}")
    console.say(f"Keep a copy of {private.name} on a medium that is not in this computer: without it you cannot")
    console.say("sign a new version, and who has it can sign in your name.")
    return {
        "private_key": private, "public_key": public, "fingerprint": provider.fingerprint,
        "provider_id": provider.provider_id, "expires": provider.expires.isoformat(), "trust_command": line,
    }  # fmt: skip
