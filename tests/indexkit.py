"""A package index of files, as a mirror on a disk is one, and a network small enough to be made here."""

import hashlib
import io
import pickle  # noqa: TID251 - sources of this form have to be made
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from modify_fl.pretrained.catalogue import NETWORKS, Distribution, Network, Official
from modify_fl.pretrained.convert import convert
from modify_fl.pretrained.fetch import tensors_digest

MEMBER = "small-1.0/alexnet.ckpt"


def weights(seed: int = 0) -> bytes:
    """Return an AlexNet of one channel a layer, as its source has it."""
    numbers = np.random.default_rng(seed)
    layers = {
        f"Conv_{i}": {
            "kernel": numbers.standard_normal((1, 1, 1, 1), np.float32), "bias": numbers.standard_normal(1, np.float32)
        }
        for i in range(5)
    }  # fmt: skip
    return pickle.dumps({"AlexNet_0": layers}, protocol=4)


def packed(data: bytes, member: str = MEMBER, *, wheel: bool = False) -> bytes:
    """Return a distribution that holds ``data``."""
    made = io.BytesIO()
    if wheel:
        with zipfile.ZipFile(made, "w") as archive:
            archive.writestr(member, data)
    else:
        with tarfile.open(fileobj=made, mode="w:gz") as sdist:
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            sdist.addfile(entry, io.BytesIO(data))
    return made.getvalue()


def make_index(folder: Path, content: bytes, filename: str, monkeypatch: pytest.MonkeyPatch) -> Distribution:
    """Put a file on an index below ``folder`` and make it the one that pip uses."""
    page = folder / "simple" / "small"
    page.mkdir(parents=True)
    (page / filename).write_bytes(content)
    (page / "index.html").write_text(
        f'<!DOCTYPE html><body><a href="other-1.0.zip">other</a> <a href="{filename}#sha256=0">{filename}</a></body>'
    )
    monkeypatch.setenv("PIP_INDEX_URL", (folder / "simple").as_uri())
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", (folder / "nothing").as_uri())
    return Distribution(
        project="small", filename=filename, sha256=hashlib.sha256(content).hexdigest(), member=MEMBER,
        licence="MIT", size=len(content),
    )  # fmt: skip


def network(distribution: Distribution, official: Official | None = None, seed: int = 0) -> Network:
    """Return the catalogue's row of the small network."""
    alexnet = NETWORKS["lpips-alex"]
    return Network(
        name="lpips-alex", use="tests", path=PurePosixPath("hub/checkpoints/small.pth"), licence="MIT",
        official=official, distribution=distribution, heads="classifier.", head_shapes=alexnet.head_shapes,
        tensors=tensors_digest(convert(alexnet, weights(seed)), "classifier."),
    )  # fmt: skip
