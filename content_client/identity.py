"""The client's own key for adapters (B-37, P-6).

Made, and pinned for adapters only, at first use. It never signs a style, and it
lies in a folder of its own, where no command looks for a provider's key.
"""

from datetime import UTC, datetime, timedelta

from protocol.provider import ProviderKey, issue_provider_key, read_provider_key, write_provider_key
from protocol.signing import PrivateKey, generate_key, load_private_key, save_private_key
from protocol.trust import TrustStore, config_folder

__all__ = ["adapter_identity"]

_NAME = "this computer"
_LIFE = timedelta(days=730)


def adapter_identity(trust: TrustStore) -> tuple[PrivateKey, ProviderKey]:
    """Return the key that signs adapters; make and pin it where there is none or it has run out.

    Args:
        trust: The store in which it is pinned, as ``adapter`` only.

    Raises:
        KeyFileError: A key file is damaged or open to others.
        StorageError: A file cannot be read or written.
    """
    folder, now = config_folder() / "identity", datetime.now(UTC).replace(microsecond=0)
    private, public = folder / "adapter.pem", folder / "adapter.mdfykey"
    if private.exists() and public.exists():
        provider = read_provider_key(public)
        if now < provider.expires:
            key = load_private_key(private)
            _pin(trust, provider)
            return key, provider
    key = generate_key()
    provider = issue_provider_key(key, name=_NAME, roles=("adapter",), not_before=now, expires=now + _LIFE)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    save_private_key(private, key, None, overwrite=True)
    write_provider_key(public, provider, overwrite=True)
    _pin(trust, provider)
    return key, provider


def _pin(trust: TrustStore, provider: ProviderKey) -> None:
    if trust.find(provider.hint) is None:
        # A part of the fingerprint keeps a renewed key apart from the old one.
        trust.add(provider, label=f"{_NAME} ({provider.fingerprint[7:15]})", roles=("adapter",))
