"""Devices, threads and the pretrained networks that are found (M-43, M-50, M-51, U-23, U-25)."""

import os
from collections.abc import Iterator, Mapping

import torch

from modify_fl.config import Runtime
from modify_fl.doctor.report import Check, Look
from modify_fl.metrics.instruments import Instruments
from modify_fl.perceptual import NetRecord, PerceptualNets, torch_home
from modify_fl.training.runtime import resolve, usable_cores
from protocol.errors import Error

__all__ = ["LOOKS"]

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_TRAINED_WITH = "facenet-vggface2"  # so the other one measures (M-44)


def _device() -> Iterator[Check]:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    compute = resolve(Runtime())
    absent = ", ".join(kind for kind, found in there.items() if not found)
    yield Check(name="device", state="ok", found=f"{compute.device.type} is used; not here: {absent or 'none'}")
    pays = "pays here: --precision auto takes it" if compute.bf16 else "does not pay here: --precision auto leaves it"
    yield Check(name="bfloat16", state="ok", found=pays)
    yield _threads(compute.threads)
    yield _load()


def _threads(threads: int) -> Check:
    cores, variables = usable_cores(), {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
    found = f"{threads} compute threads; {cores} of {os.cpu_count() or 1} cores may be used"
    wrong = [f"{name}={value}" for name, value in variables.items() if not (value.isdecimal() and int(value) <= cores)]
    if wrong or threads > cores:
        why = f"more threads than cores slow everything down: {', '.join(wrong) or threads}"
        fix = f"set {', '.join(variables) or '--threads'} to at most {cores}"
        return Check(name="threads", state="warn", found=f"{found}; {why}", fix=fix)
    return Check(name="threads", state="ok", found=found)


def _load() -> Check:
    """Say whether others compute on the same cores (U-25)."""
    if not hasattr(os, "getloadavg"):  # pragma: no cover - Windows
        return Check(name="load", state="ok", found="not told by this system")
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    busy = load > cores
    return Check(
        name="load", state="warn" if busy else "ok", found=f"{load:.1f} on {cores} cores in the last minute",
        fix="end other programs; until then everything takes longer" if busy else "",
    )  # fmt: skip


def _training_networks() -> Iterator[Check]:
    nets = PerceptualNets.find()
    found = {"LPIPS": nets.lpips and nets.perceptual, "face network": nets.face and nets.identity}
    stand_in = {"LPIPS": "features of the critic stand in (M-41)", "face network": "a pyramid stands in (M-42)"}
    for name, record in found.items():
        yield _network(name, record or None, f"not found: {stand_in[name]}")


def _measuring_networks() -> Iterator[Check]:
    tools = Instruments.find(trained_identity=_TRAINED_WITH)
    for name, key in (("face net for figures", "face"), ("Inception for FID", "inception")):
        yield _network(name, tools.records.get(key), tools.missing.get(key, "").partition(";")[0])


def _network(name: str, record: NetRecord | None, missing: str) -> Check:
    if record is not None:
        return Check(name=name, state="ok", found=f"{record.name}, sha256 {record.sha256}", place=torch_home())
    fix = "set TORCH_HOME to the folder that holds the weights, or run style-provider weights fetch"
    return Check(name=name, state="warn", found=missing, fix=fix, place=torch_home())


def _guarded(look: Look, name: str) -> Look:
    """Say of a file that is there but holds something else how to go on."""

    def guarded() -> Iterator[Check]:
        try:
            yield from look()
        except (Error, KeyError, RuntimeError, ValueError, OSError) as error:
            why = f"{type(error).__name__}: {error}".split("\n")[0]
            found = f"a file there is not the network that its name says: {why}"
            fix = "replace the file, or take it away: a declared stand-in is used then"
            yield Check(name=name, state="fail", found=found, fix=fix, place=torch_home())

    return guarded


LOOKS: Mapping[str, Look] = {
    "device": _device,
    "networks of training": _guarded(_training_networks, "networks of training"),
    "networks of figures": _guarded(_measuring_networks, "networks of figures"),
}
"""Everything that needs torch, by name."""
