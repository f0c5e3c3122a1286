"""Members -> signed bundle: the mirror of ``verify``.

Rules kept here: everything that can be derived is derived, not asked for (the
member tables, the model card: B-17, B-21); private details are looked for before
anything is signed (B-20); equal input gives equal bytes (B-6); a bundle appears
under its name only after the verifier has accepted it; it is signed first and
encrypted afterwards, and its plain text never has its name (B-27).

Contents are hashed in one thread while another one puts them into their place,
and the disk is waited for while the verifier reads (B-46).
"""

import contextlib
import hashlib
import math
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from protocol.card import CARD, model_card
from protocol.container import (
    SIGNATURE,
    WEIGHTS,
    canonical_order,
    check_name,
    content_offsets,
    write_container,
)
from protocol.encryption import Identity, check_recipient, encrypt_stream
from protocol.errors import problem
from protocol.lint import lint_members
from protocol.manifest import MANIFEST, FileEntry, Manifest, WeightFile
from protocol.provider import ProviderKey
from protocol.signing import PrivateKey, public_der
from protocol.statement import Resource, Statement, sign_statement
from protocol.storage import atomic_writer
from protocol.tensors import HEADER_LENGTH, MAX_HEADER, read_tensor_header
from protocol.trust import TrustStore
from protocol.verify import verify_bundle

__all__ = ["write_bundle"]

_MADE_HERE = (MANIFEST, CARD, SIGNATURE)
_OPEN = "0" * 64  # stands for a digest that is not known yet


class _Kind(NamedTuple):
    """How the file table describes a member."""

    role: str
    media_type: str


_BY_NAME = {MANIFEST: _Kind("manifest", "application/json"), CARD: _Kind("card", "text/markdown")}
_BY_SUFFIX = {
    ".json": _Kind("report", "application/json"),
    ".md": _Kind("report", "text/markdown"),
    ".txt": _Kind("report", "text/plain"),
    WEIGHTS: _Kind("weights", "application/octet-stream"),
}


def _file_entry(name: str) -> FileEntry:
    kind = _BY_NAME.get(name) or _BY_SUFFIX["." + name.rpartition(".")[2]]
    return FileEntry(path=name, role=kind.role, media_type=kind.media_type)


def _resource(name: str, data: bytes) -> Resource:
    digest = hashlib.sha256(data).hexdigest()
    return Resource(name=name, digest=digest, size=len(data), crc32=zlib.crc32(data))


def _weight_file(name: str, data: bytes, abs_max: Mapping[str, float]) -> WeightFile:
    """Describe a member that is not hashed yet."""
    if name not in abs_max:
        raise problem("E_TENSOR_VALUE", member=name, detail="no abs_max was given")
    start = data[: HEADER_LENGTH + MAX_HEADER]
    return WeightFile(
        file=name,
        sha256=_OPEN,
        size=len(data),
        tensors=read_tensor_header(start, size=len(data), member=name),
        abs_max=float(abs_max[name]),
    )


def _complete(manifest: Manifest, weights: tuple[WeightFile, ...], names: Iterable[str]) -> Manifest:
    """Fill in what follows from the members."""
    stored = sum(math.prod(info.shape) for file in weights for info in file.tensors.values())
    return replace(
        manifest,
        model=replace(manifest.model, weights=weights, n_parameters=stored),
        files=tuple(_file_entry(name) for name in sorted({*names, MANIFEST, CARD})),
    )


def _with_digests(draft: Manifest, resources: Mapping[str, Resource]) -> Manifest:
    """Fill in the digests; no member changes its length by that."""
    weights = tuple(replace(file, sha256=resources[file.file].digest) for file in draft.model.weights)
    return replace(draft, model=replace(draft.model, weights=weights))


def _made_here(manifest: Manifest) -> dict[str, bytes]:
    return {MANIFEST: manifest.to_bytes(), CARD: model_card(manifest)}


def _ordered(members: Mapping[str, bytes]) -> list[tuple[str, bytes]]:
    return sorted(members.items(), key=lambda item: canonical_order(item[0]))


def _check_members(members: Mapping[str, bytes]) -> None:
    for name in members:
        check_name(name)
        if name in _MADE_HERE:
            raise problem("E_MEMBER_NAME", member=name, why="this member is made by the writer")


def _store(stream: BinaryIO, members: Mapping[str, bytes], made: Mapping[str, bytes]) -> dict[str, Resource]:
    """Put the contents of ``members`` into their place, and hash them meanwhile (B-46)."""
    sizes = [(name, len(data)) for name, data in _ordered({**members, **made})]
    offsets = content_offsets(sizes)
    with ThreadPoolExecutor(1) as pool:
        hashing = pool.submit(lambda: {name: hashlib.sha256(data).hexdigest() for name, data in members.items()})
        crcs = {}
        for name, data in _ordered(members):
            stream.seek(offsets[name])
            stream.write(data)
            crcs[name] = zlib.crc32(data)
        digests = hashing.result()
    return {
        name: Resource(name=name, digest=digests[name], size=len(data), crc32=crcs[name])
        for name, data in members.items()
    }


@dataclass(frozen=True, kw_only=True)
class _Order:
    """A checked request."""

    draft: Manifest
    """Complete but for the digests of the weights."""
    members: Mapping[str, bytes]
    key: PrivateKey
    provider: ProviderKey

    def pack(self, stream: BinaryIO) -> str:
        """Sign and write everything at the start of ``stream``; returns the payload digest."""
        given = _store(stream, self.members, _made_here(self.draft))
        finished = _with_digests(self.draft, given)
        lint_members(finished, self.members)
        made = _made_here(finished)
        signed = given | {name: _resource(name, data) for name, data in made.items()}
        resources = tuple(signed[name] for name in sorted(signed))
        record = sign_statement(self.key, Statement(kind=finished.kind, resources=resources))
        crcs = {name: resource.crc32 for name, resource in signed.items()}
        contents = {**self.members, **made, SIGNATURE: record.to_bytes()}
        stream.seek(0)
        write_container(stream, _ordered(contents), crcs=crcs, stored=self.members.keys())
        stream.flush()
        return record.payload_digest

    def check(self, path: Path, digest: str) -> None:
        """Let the verifier decide, on behalf of a client that is addressed and agreed to the terms."""
        trust = TrustStore.of(self.provider)
        trust.acknowledge(digest)
        audience = self.draft.usage.audience
        reader = Identity(recipient=audience[0], secret=str) if audience else None
        verify_bundle(path, trust=trust, now=self.draft.bundle.created, identity=reader)


@contextlib.contextmanager
def _reaching_the_disk(stream: BinaryIO) -> Iterator[None]:
    """Send what was written on its way while the block runs, and wait for its arrival."""
    with ThreadPoolExecutor(1) as pool:
        arrival = pool.submit(os.fsync, stream.fileno())
        yield
        arrival.result()


def _pack_encrypted(order: _Order, stream: BinaryIO, folder: Path, recipients: Sequence[str]) -> str:
    """Pack into a private file that is gone afterwards, and encrypt that one into ``stream`` (B-27)."""
    with tempfile.NamedTemporaryFile(prefix=".", suffix=".part", dir=folder) as plain:  # mode 0600
        reader = cast("BinaryIO", plain)
        digest = order.pack(reader)
        order.check(Path(plain.name), digest)
        reader.seek(0)
        encrypt_stream(reader, stream, recipients)
    return digest


def write_bundle(
    path: Path,
    *,
    manifest: Manifest,
    members: Mapping[str, bytes],
    abs_max: Mapping[str, float],
    key: PrivateKey,
    provider: ProviderKey,
    recipients: Sequence[str] = (),
    overwrite: bool = False,
) -> str:
    """Complete the manifest, sign, pack, verify the result, and encrypt it if asked to.

    Args:
        path: Destination, ``.mdfy`` or ``.mdfa``; its folder must exist.
        manifest: What only the caller knows; ``files``, ``model.weights`` and
            ``model.n_parameters`` are replaced. Its times decide the validity,
            its ``bundle.created`` is the time at which the result is verified.
        members: Contents by name, safetensors and reports; the manifest, the
            model card and the signature are made here.
        abs_max: For each safetensors member the largest magnitude of its
            values (B-25 step 13), finite.
        key: The provider's private key.
        provider: The record of the same key; ``manifest.provider`` must name it.
        recipients: ``age1...`` lines; the file is encrypted to all of them
            (B-27). Who may use it is a matter of ``manifest.usage.audience``.
        overwrite: Whether an existing file is replaced.

    Returns:
        The payload digest, hex: the identity of the bundle (B-13).

    Raises:
        PolicyError: E_LINT, a private detail was found (B-20); E_LOCAL_ONLY,
            weights that must stay here have recipients (B-18); or the bundle
            or its key is not valid at ``bundle.created``.
        KeyFileError: E_KEYFILE, a recipient is no ``age1...`` line.
        EnvironmentMissingError: E_NO_AGE, ``pyrage`` is not installed.
        UntrustedKeyError: ``key``, ``provider`` and ``manifest`` do not belong
            together, or the key may not sign this kind.
        MalformedBundleError: a member name or a manifest field is not allowed.
        TensorError: a safetensors member is not in strict form.
        StorageError: E_IO, cannot be written, or exists.
    """
    if public_der(key.public_key()) != public_der(provider.public_key):
        raise problem("E_PROVIDER_MISMATCH", got="another key", expected=provider.fingerprint)
    if recipients and manifest.release == "local-only":
        raise problem("E_LOCAL_ONLY", why="these weights must not be given to anyone")
    addressed = [check_recipient(recipient) for recipient in recipients]
    _check_members(members)
    weights = tuple(
        _weight_file(name, data, abs_max) for name, data in sorted(members.items()) if name.endswith(WEIGHTS)
    )
    draft = _complete(manifest, weights, members)
    order = _Order(draft=draft, members=members, key=key, provider=provider)
    with atomic_writer(path, overwrite=overwrite) as stream:
        if addressed:
            return _pack_encrypted(order, stream, path.parent, addressed)
        digest = order.pack(stream)
        with _reaching_the_disk(stream):
            order.check(Path(stream.name), digest)
    return digest
