"""What ``style-provider doctor`` looks at besides this computer: the signing key (B-32)."""

from collections.abc import Iterator

from modify_fl.doctor.keys import lifetime_trouble
from modify_fl.doctor.report import Check, Look
from modify_fl.errors import ConfigError
from protocol.provider import read_provider_key
from style_provider.keys import check_current, find_key, key_folder, load_pair, public_path

__all__ = ["LOOKS"]


def _signing_key() -> Iterator[Check]:
    name, place = "signing key", key_folder()
    try:
        path = find_key()
        provider = read_provider_key(public_path(path))
        check_current(path, provider)
    except ConfigError as error:
        yield Check(name=name, state="warn", found=error.what, fix=error.fix, place=place)
        return
    if path.suffix == ".pem":  # one under a passphrase is left closed
        load_pair(path, None, lambda _: "")
    trouble, found = lifetime_trouble(provider.expires), f"{provider.fingerprint}, key {provider.serial}"
    yield Check(
        name=name, state="warn" if trouble else "ok",
        found=f"{found}, {trouble}" if trouble else f"{found}, until {provider.expires:%Y-%m-%d}",
        fix="run style-provider key rotate" if trouble else "", place=place,
    )  # fmt: skip


LOOKS: dict[str, Look] = {"signing key": _signing_key}
"""By name."""
