"""This computer, as far as it can be seen without torch: Python, packages, folders, texts (U-3, U-31, U-47)."""

import contextlib
import locale
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from modify_fl.doctor.report import INSTALL_ANEW, Check, Look, State
from protocol.trust import config_folder

__all__ = ["LOOKS"]

_PYTHON = (3, 11)
_SHOWN = ("torch", "torchvision", "numpy", "pillow", "cryptography", "facenet-pytorch")
_EXTRAS = ("evaluate", "heic", "onnx", "tensorboard")
_SPACE_WARN = 2 * 10**9
_SPACE_FAIL = 10**8


def _python() -> Iterator[Check]:
    found = f"{platform.python_version()} ({platform.python_implementation()}, {platform.system()})"
    new = sys.version_info >= _PYTHON
    yield Check(name="python", state="ok" if new else "fail", found=found, fix="" if new else "install Python 3.11")


def _packages() -> Iterator[Check]:
    here = _needed()
    wrong = [f"{need} ({_installed(need.name) or 'missing'})" for need in here if not _fits(need)]
    if wrong:
        yield Check(
            name="packages", state="fail", found=f"not as required: {', '.join(wrong)}",
            fix=INSTALL_ANEW,
        )  # fmt: skip
        return
    shown = ", ".join(f"{name} {_installed(name)}" for name in _SHOWN)
    yield Check(name="packages", state="ok", found=f"{len(here)} as required: {shown}")


def _extras() -> Iterator[Check]:
    lacking = [extra for extra in _EXTRAS if not all(_fits(need) for need in _needed(extra))]
    there = [extra for extra in _EXTRAS if extra not in lacking]
    found = f"{', '.join(there) or 'none'} installed; not installed: {', '.join(lacking) or 'none'}"
    yield Check(name="extras", state="ok", found=found)
    if "heic" in lacking:  # the only one that reads what a client brings
        fix = "run pip install 'modify-fl[heic]'"
        yield Check(name="HEIC photos", state="warn", found="cannot be read: no pillow-heif", fix=fix)
    else:
        yield Check(name="HEIC photos", state="ok", found=f"pillow-heif {_installed('pillow-heif')}")


def _needed(extra: str = "") -> list[Requirement]:
    """Return what the package itself requires, or what an extra adds to that."""
    lines = [Requirement(line) for line in requires("modify-fl") or ()]
    return [line for line in lines if bool(extra) == _is_extra(line) and _applies(line, extra)]


def _is_extra(line: Requirement) -> bool:
    return line.marker is not None and "extra" in str(line.marker)


def _applies(line: Requirement, extra: str) -> bool:
    return line.marker is None or line.marker.evaluate({"extra": extra})


def _fits(need: Requirement) -> bool:
    got = _installed(need.name)
    return got is not None and need.specifier.contains(got, prereleases=True)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _folders() -> Iterator[Check]:
    config, here = config_folder(), Path.cwd()
    yield _writable("configuration", config, fix="make it writable, or set MODIFY_CONFIG to a folder that is")
    yield _writable("current folder", here, fix="name another folder with --out", state="warn")
    free = min(shutil.disk_usage(folder).free for folder in (_nearest(config), here))
    state: State = "ok" if free >= _SPACE_WARN else "warn" if free >= _SPACE_FAIL else "fail"
    yield Check(
        name="free space", state=state, found=f"{free / 1e9:.1f} GB", fix="" if state == "ok" else "delete what is old"
    )


def _writable(name: str, folder: Path, *, fix: str, state: State = "fail") -> Check:
    """Try to write, which leaves nothing behind: modes tell nothing about mounts, quotas and administrators."""
    there = folder.exists()
    try:
        with tempfile.TemporaryFile(dir=_nearest(folder)):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return Check(name=name, state=state, found=f"not writable: {reason}", fix=fix, place=folder)
    return Check(name=name, state="ok", found="writable" if there else "not made yet, and can be", place=folder)


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    with contextlib.suppress(OSError):
        return next(place for place in (folder, *folder.parents) if place.exists())
    return folder


def _texts() -> Iterator[Check]:
    used = {
        "files": sys.getfilesystemencoding(), "output": sys.stdout.encoding or "unknown",
        "locale": locale.getpreferredencoding(do_setlocale=False),
    }  # fmt: skip
    odd = [f"{what} {name}" for what, name in used.items() if name.lower().replace("-", "") != "utf8"]
    yield Check(
        name="texts", state="warn" if odd else "ok",
        found=f"not UTF-8: {', '.join(odd)}; names of photos may be shown wrong" if odd else "UTF-8",
        fix="set PYTHONUTF8=1, or a locale such as LANG=C.UTF-8" if odd else "",
    )  # fmt: skip


LOOKS: dict[str, Look] = {
    "python": _python, "packages": _packages, "extras": _extras, "folders": _folders, "texts": _texts,
}  # fmt: skip
"""Everything that needs no torch, by name."""
