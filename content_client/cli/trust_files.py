"""``content-client trust update`` and ``trust identity``: the files that go between provider and client."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from content_client.identity import OwnKeys, identity_folder, own_keys, sharing_advice
from modify_fl.console import Console, ItemsFailedError, Verbosity, run_command
from modify_fl.options import DebugOption, JsonOption, QuietOption, VerboseOption
from modify_fl.passphrase import new_passphrase
from protocol.canonical import parse_json, pick
from protocol.errors import Error, MalformedBundleError
from protocol.provider import KEY_PAYLOAD_TYPE, ProviderKey
from protocol.revocation import MAX_REVOCATION, REVOCATION_PAYLOAD_TYPE, SignedRevocation
from protocol.signing import unusable
from protocol.storage import read_file
from protocol.trust import TrustStore

__all__ = ["identity", "read_update", "update"]


def read_update(path: Path) -> ProviderKey | SignedRevocation:
    """Read a ``.mdfykey`` or ``.mdfyrev`` file; its contents decide which it is, not its name.

    Raises:
        KeyFileError: E_KEYFILE, it is neither.
        VerificationError: E_SIG_BAD, a key file that was not signed by itself.
        StorageError: E_IO, cannot be read.
    """
    data = read_file(path, limit=MAX_REVOCATION)
    try:
        value = parse_json(data, limit=MAX_REVOCATION, member=path.name)
        kind = pick(value, "payloadType")
    except (MalformedBundleError, LookupError) as error:
        raise unusable(path, "neither a provider key nor a revocation") from error
    if kind == KEY_PAYLOAD_TYPE:
        return ProviderKey.from_json(value, source=str(path))
    if kind == REVOCATION_PAYLOAD_TYPE:
        return SignedRevocation.from_json(value, source=str(path))
    raise unusable(path, "neither a provider key nor a revocation")


def update(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...")],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Take up new keys and revocations of accepted providers.

    FILE is a .mdfykey file with the key that follows an accepted one, or a
    .mdfyrev file with what the provider takes back. Several files may be given
    in any order; each is judged for itself.
    """
    console = Console(
        "content-client", "trust update", Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    )

    def action() -> Mapping[str, object]:
        store, now = TrustStore.default(), datetime.now(UTC)
        results = _update_all(console, store, files, now)
        for warning in store.warnings(now):
            console.warn(warning)
        return _outcome(results)

    return run_command(console, action)


@dataclass(frozen=True, kw_only=True)
class _Result:
    """What became of one file."""

    file: Path
    record: Mapping[str, object]
    error: Error | None = None


def _update_all(console: Console, store: TrustStore, files: Sequence[Path], now: datetime) -> list[_Result]:
    """Try all files: keys by serial, then revocations by number, since a list needs the key that signed it."""
    results: list[_Result] = []
    items: list[tuple[Path, ProviderKey | SignedRevocation]] = []
    for file in files:
        try:
            items.append((file, read_update(file)))
        except Error as error:
            results.append(_failed(file, error))
    for file, item in sorted(items, key=lambda pair: _rank(pair[1])):
        try:
            done = store.update(item, now=now)
        except Error as error:
            results.append(_failed(file, error))
            continue
        console.say(f"{file}: {done.label}: {done.what}")
        record = {"file": file, "ok": True, "label": done.label, "what": done.what, "changed": done.changed}
        results.append(_Result(file=file, record=record))
    return results


def _failed(file: Path, error: Error) -> _Result:
    record = {"file": file, "ok": False, "code": error.code, "what": error.what, "why": error.why, "fix": error.fix}
    return _Result(file=file, record=record, error=error)


def _rank(item: ProviderKey | SignedRevocation) -> tuple[bool, int]:
    return (False, item.serial) if isinstance(item, ProviderKey) else (True, item.number)


def _outcome(results: Sequence[_Result]) -> Mapping[str, object]:
    """Return the result of the command, or raise what failed (U-43, U-45)."""
    failed = [(result.file, result.error) for result in results if result.error]
    record = {"files": [result.record for result in results]}
    if not failed:
        return record
    if len(results) == 1:
        raise failed[0][1]
    lines = [f"{file}: {error.what}" + (f" ({error.why})" if error.why else "") for file, error in failed]
    raise ItemsFailedError(
        f"{len(failed)} of {len(results)} files were not accepted", result=record, why="\n".join(lines)
    )


def identity(
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder of the keys.", show_default="in the folder for settings"),
    ] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option("--passphrase-file", metavar="FILE", help="Its first line is the passphrase.")
    ] = None,
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Leave the private keys unprotected, but for their file mode.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make new keys; what was encrypted to the old one stays closed.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Make your own keys, or show their public parts again.

    One key opens bundles that a provider has encrypted to you; send the line
    age1... to the provider for that. The other signs the adapters that you make.
    The passphrase is asked for, read from a file, or taken from MDFY_PASSPHRASE.
    """
    console = Console(
        "content-client", "trust identity", Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    )

    def passphrase() -> str | None:
        return None if no_passphrase else new_passphrase(passphrase_file, console.ask_secret)

    def action() -> Mapping[str, object]:
        folder = identity_folder() if out is None else out
        keys = own_keys(TrustStore.default(), folder, passphrase, console.ask_secret, overwrite=overwrite)
        return _show(console, keys, folder)

    return run_command(console, action)


def _show(console: Console, keys: OwnKeys, folder: Path) -> Mapping[str, object]:
    console.note(f"made {' and '.join(keys.made)} in {folder}" if keys.made else f"the keys in {folder} exist already")
    console.note("send this line to providers who encrypt bundles to you:")
    console.say(keys.recipient)
    console.note(f"your adapters are signed by {keys.adapter.fingerprint}, until {keys.adapter.expires:%Y-%m-%d}")
    for line in sharing_advice(keys.adapter, folder):
        console.note(line)
    return {
        "recipient": keys.recipient, "folder": folder, "made": list(keys.made),
        "adapter": {"fingerprint": keys.adapter.fingerprint, "expires": keys.adapter.expires.isoformat()},
    }  # fmt: skip
