"""What ``content-client doctor`` looks at besides this computer: trust store and own keys (B-32, B-37, B-43)."""

from collections.abc import Iterator
from datetime import UTC, datetime

from content_client.identity import adapter_key, identity_folder, own_identity
from modify_fl.doctor.keys import lifetime_trouble
from modify_fl.doctor.report import Check, Look
from protocol.pins import PinnedKey
from protocol.trust import TrustStore, config_folder

__all__ = ["LOOKS"]

_NEWER = "get the provider's newest key file, and run content-client trust update FILE"


def _trust() -> Iterator[Check]:
    name, trust, place = "trust store", TrustStore.default(), config_folder() / "trust"
    pins = [pin for pin in trust.list() if "style" in pin.roles and pin.retired_from is None]
    if pins:
        yield Check(name=name, state="ok", found=f"{len(pins)} providers of styles accepted", place=place)
    else:
        fix = "run content-client trust add FILE.mdfykey --fingerprint SHA256:..."
        yield Check(name=name, state="warn", found="no provider of styles is accepted yet", fix=fix, place=place)
    for warning in trust.warnings(datetime.now(UTC)):
        yield Check(name=name, state="warn", found=warning, fix="run content-client trust update FILE")
    for pin in pins:
        trouble = _trouble(pin)
        if trouble:
            yield Check(name=f"key of {pin.label}", state="warn", found=trouble, fix=_NEWER)


def _trouble(pin: PinnedKey) -> str:
    if pin.disputed:
        return "in dispute: two keys with one number were seen"
    if pin.revoked is not None:
        return f"revoked: {pin.revoked}"
    return lifetime_trouble(pin.key.expires)


def _own_keys() -> Iterator[Check]:
    name, place = "own keys", identity_folder()
    identity, adapter = own_identity(None, None, None), adapter_key()
    parts = [
        "an identity for styles sent to you" if identity else "no identity (content-client trust identity makes one)",
        f"adapter key until {adapter.expires:%Y-%m-%d}" if adapter else "no adapter key yet, adapt makes one",
    ]
    yield Check(name=name, state="ok", found="; ".join(parts), place=place)


LOOKS: dict[str, Look] = {"trust store": _trust, "own keys": _own_keys}
"""Both, by name."""
