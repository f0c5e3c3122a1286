"""Members -> signed bundle: the mirror of ``verify``.

Rules kept here: everything that can be derived is derived, not asked for (the
member tables, the model card: B-17, B-21); private details are looked for before
anything is signed (B-20); equal input gives equal bytes (B-6); a bundle appears
under its name only after the verifier has accepted it.
"""

import hashlib
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from protocol.card import CARD, model_card
from protocol.container import (
    SIGNATURE,
    WEIGHTS,
    canonical_order,
    check_name,
    write_container,
)
from protocol.errors import problem
from protocol.lint import lint_members
from protocol.manifest import MANIFEST, FileEntry, Manifest, WeightFile
from protocol.provider import ProviderKey
from protocol.signing import PrivateKey, public_der
from protocol.statement import Resource, Statement, sign_statement
from protocol.storage import atomic_writer
from protocol.tensors import HEADER_LENGTH, MAX_HEADER, read_tensor_header
from protocol.trust import TrustStore
from protocol.verify import open_bundle

__all__ = ["write_bundle"]

_MADE_HERE = (MANIFEST, CARD, SIGNATURE)


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


def _weight_file(resource: Resource, data: bytes, abs_max: Mapping[str, float]) -> WeightFile:
    name = resource.name
    if name not in abs_max:
        raise problem("E_TENSOR_VALUE", member=name, detail="no abs_max was given")
    start = data[: HEADER_LENGTH + MAX_HEADER]
    return WeightFile(
        file=name,
        sha256=resource.digest,
        size=resource.size,
        tensors=read_tensor_header(start, size=resource.size, member=name),
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


def _check_members(members: Mapping[str, bytes]) -> None:
    for name in members:
        check_name(name)
        if name in _MADE_HERE:
            raise problem("E_MEMBER_NAME", member=name, why="this member is made by the writer")


def write_bundle(
    path: Path,
    *,
    manifest: Manifest,
    members: Mapping[str, bytes],
    abs_max: Mapping[str, float],
    key: PrivateKey,
    provider: ProviderKey,
    overwrite: bool = False,
) -> str:
    """Complete the manifest, sign, pack, and verify the result.

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
        overwrite: Whether an existing file is replaced.

    Returns:
        The payload digest, hex: the identity of the bundle (B-13).

    Raises:
        PolicyError: E_LINT, a private detail was found (B-20); or the bundle
            or its key is not valid at ``bundle.created``.
        UntrustedKeyError: ``key``, ``provider`` and ``manifest`` do not belong
            together, or the key may not sign this kind.
        MalformedBundleError: a member name or a manifest field is not allowed.
        TensorError: a safetensors member is not in strict form.
        StorageError: E_IO, cannot be written, or exists.
    """
    if public_der(key.public_key()) != public_der(provider.public_key):
        raise problem("E_PROVIDER_MISMATCH", got="another key", expected=provider.fingerprint)
    _check_members(members)
    given = {name: _resource(name, data) for name, data in sorted(members.items())}
    weights = tuple(_weight_file(given[name], members[name], abs_max) for name in given if name.endswith(WEIGHTS))
    finished = _complete(manifest, weights, members)
    lint_members(finished, members)
    made = {MANIFEST: finished.to_bytes(), CARD: model_card(finished)}
    signed = given | {name: _resource(name, data) for name, data in made.items()}
    resources = tuple(signed[name] for name in sorted(signed))
    record = sign_statement(key, Statement(kind=finished.kind, resources=resources))
    contents = {**members, **made, SIGNATURE: record.to_bytes()}
    ordered = sorted(contents.items(), key=lambda item: canonical_order(item[0]))
    with atomic_writer(path, overwrite=overwrite) as stream:
        write_container(stream, ordered)
        stream.flush()
        trust, now = TrustStore.of(provider), finished.bundle.created
        open_bundle(Path(stream.name), trust=trust, now=now).close()
    return record.payload_digest
