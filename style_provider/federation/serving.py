"""``serve``: sites in, rounds, a signed adapter out, and an exit code that says how it went (F-20 to F-26).

Brings in Flower: imported after ``set_environment`` (F-4).
"""

import shlex
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modify_fl.console import Console, ItemsFailedError
from modify_fl.errors import FederationError, FederationSetupError, InterruptedRunError
from modify_fl.federated import compat
from modify_fl.federated.control import Control, Node, RunState
from modify_fl.federated.coordinator_folder import CoordinatorFolder
from modify_fl.federated.fab import fab_bytes
from modify_fl.federated.holder import held
from modify_fl.federated.journal import append, read_journal
from modify_fl.federated.kit import Kit
from modify_fl.federated.site_keys import read_public
from style_provider.federation.planning import site_files
from style_provider.federation.result import Sealed, seal
from style_provider.federation.superlink import Running, started

__all__ = ["Serving", "serve"]

_PAUSE = 1.0


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What ``serve`` was told."""

    folder: CoordinatorFolder
    kit: Kit
    out: Path
    """The adapter."""
    overwrite: bool
    host: str
    port: int


def serve(task: Serving, *, fresh: bool, console: Console) -> Mapping[str, object]:
    """Run the rounds that are missing, and sign what they made.

    Args:
        task: Folder, kit, place of the result, address.
        fresh: Throw earlier rounds away.
        console: Shows what happens.

    Raises:
        FederationSetupError: Flower, a process or the bundle is not what it should be (exit 12).
        FederationError: Too few sites, or no round came about (exit 14).
        ItemsFailedError: Some rounds were skipped; the adapter is there (exit 13).
        InterruptedRunError: A signal; all finished rounds are kept (exit 130).
    """
    compat.check()
    folder, plan = task.folder, task.kit.plan
    with held(folder.path, fix=f"end that first: run style-provider federate stop {shlex.quote(str(folder.path))}"):
        if fresh:
            shutil.rmtree(folder.rounds, ignore_errors=True)
            append(folder.journal, "fresh")
        if _done(folder) < plan.rounds:
            archive = fab_bytes()
            try:
                with started(folder, host=task.host, port=task.port) as running:
                    append(folder.journal, "started", rounds_before=_done(folder))
                    _run(task, running, archive, console)
            except KeyboardInterrupt:
                append(folder.journal, "interrupted", rounds=_done(folder))
                raise InterruptedRunError(
                    f"stopped after round {_done(folder)} of {plan.rounds}", why="finished rounds are kept"
                ) from None
        sealed = seal(folder, task.kit, task.out, overwrite=task.overwrite)
        append(folder.journal, "signed", adapter=sealed.digest, skipped=len(sealed.skipped))
    return _report(task, sealed, console)


def _done(folder: CoordinatorFolder) -> int:
    from modify_fl.training import checkpoint  # noqa: PLC0415 - brings in torch

    saved = checkpoint.load(folder.rounds)
    return saved.step if saved else 0


def _run(task: Serving, running: Running, archive: bytes, console: Console) -> None:
    nodes = _wait_for_sites(task, running, console)
    _end_earlier_runs(running.control)
    append(task.folder.journal, "begun", sites=len(nodes))
    run = running.control.start(archive, task.kit.plan.fab_sha256, {})
    told = len(read_journal(task.folder.journal))
    try:
        while not (state := running.control.state(run)).finished:
            told = _tell(task, told, console)
            running.require_alive()
            time.sleep(_PAUSE)
    except FederationSetupError as error:
        _tell(task, told, console)
        raise _broken(task, error.what, error.why) from error
    except KeyboardInterrupt:
        _stop(running.control, run)
        raise
    _tell(task, told, console)
    _require_completed(task, state)


def _require_completed(task: Serving, state: RunState) -> None:
    """Believe a run only if Flower says it was completed and its last round is on the disk (F-26)."""
    append(task.folder.journal, "ended", status=state.status, bytes_down=state.bytes_down, bytes_up=state.bytes_up)
    if not state.completed:
        raise _broken(task, f"the run has {state.status.partition(':')[2] or state.status}", state.details)
    if _done(task.folder) < task.kit.plan.rounds:
        raise _broken(task, "the run ended before its last round", "")


def _broken(task: Serving, what: str, why: str) -> FederationError:
    done = _done(task.folder)
    append(task.folder.journal, "failed", rounds=done, why=why[:300])
    return FederationError(
        what, why=why.replace("ServerApp failed with exception: ", "") or f"{done} rounds are on the disk",
        fix=f"to go on after round {done}, run {_resuming(task)}",
    )  # fmt: skip


def _resuming(task: Serving) -> str:
    return shlex.join(["style-provider", "federate", "serve", str(task.folder.path), "--resume"])


def _end_earlier_runs(control: Control) -> None:
    """End what a coordinator that was killed has left in Flower's database: it would run beside the new one."""
    for run in control.unfinished():
        _stop(control, run)


def _stop(control: Control, run: int) -> None:
    try:
        control.stop(run)
    except FederationSetupError:
        return  # it has ended meanwhile


# Sites --------------------------------------------------------------------------------


def _wait_for_sites(task: Serving, running: Running, console: Console) -> tuple[Node, ...]:
    """Register keys as they come, and wait for all sites; for a quorum once the time is over (F-21).

    Raises:
        FederationError: Too few came.
    """
    plan, deadline = task.kit.plan, time.monotonic() + task.kit.plan.wait_seconds
    there: frozenset[str] = frozenset()
    _register(task, running.control)
    running.control.open_to_sites()
    console.note(f"listening at {task.host}:{task.port}; waiting for {plan.sites} sites")
    while True:
        nodes = _register(task, running.control)
        online = tuple(node for node in nodes if node.online)
        for name in sorted({node.name for node in online} - there):
            console.note(f"{name} is there")
            append(task.folder.journal, "connected", site=name)
        there = frozenset(node.name for node in online)
        if len(online) >= plan.sites:
            return online
        if time.monotonic() > deadline:
            break
        running.require_alive()
        time.sleep(_PAUSE)
    if len(online) >= plan.quorum:
        return online
    missing = sorted(node.name for node in nodes if not node.online)
    append(task.folder.journal, "failed", rounds=_done(task.folder), why="too few sites")
    raise FederationError(
        f"{len(online)} of {plan.sites} sites came within {plan.wait_seconds:g} s, {plan.quorum} are needed",
        why=f"missing: {', '.join(missing)}" if missing else f"{len(nodes)} sites have sent a key",
        fix=f"start the sites, then run {_resuming(task)}",
    )


def _register(task: Serving, control: Control) -> tuple[Node, ...]:
    """Let every site in whose key lies in the folder of sites, and keep their names for the log."""
    nodes = control.nodes()
    known = {node.public_key.strip() for node in nodes}
    for path in site_files(Path(task.folder.settings().sites)):
        key, _ = read_public(path)
        if key.strip() not in known:
            control.register(key, path.stem)
            append(task.folder.journal, "registered", site=path.stem)
    nodes = control.nodes()
    task.folder.write_nodes({node.node_id: node.name for node in nodes})
    return nodes


# What was done ----------------------------------------------------------------------


def _tell(task: Serving, told: int, console: Console) -> int:
    entries = read_journal(task.folder.journal)
    for entry in entries[told:]:
        if entry.event == "round":
            facts = entry.facts
            left_out = f"; {facts['rejected']}" if facts["rejected"] else ""
            end = "SKIPPED" if facts["skipped"] else f"{facts['accepted']} of {facts['asked']} updates"
            console.note(f"round {facts['round']} of {task.kit.plan.rounds}: {end}{left_out}")
    return len(entries)


def _report(task: Serving, sealed: Sealed, console: Console) -> Mapping[str, object]:
    result = {
        "adapter": task.out, "digest": sealed.digest, "rounds": sealed.rounds, "skipped": list(sealed.skipped),
        "release": sealed.release, "statement": sealed.statement,
    }  # fmt: skip
    console.say(f"wrote {task.out} ({task.out.stat().st_size / 1e6:.2f} MB): {sealed.rounds} rounds")
    console.say(sealed.statement)
    bundle = task.folder.settings().bundle
    command = shlex.join(["content-client", "stylize", "--bundle", str(bundle), "--adapter", str(task.out)])
    console.say(f"next: give it to the sites; {command} PHOTO... --out DIR")
    if sealed.skipped:
        why = f"rounds {', '.join(map(str, sealed.skipped))} had too few updates and changed nothing"
        raise ItemsFailedError(f"{len(sealed.skipped)} of {sealed.rounds} rounds were skipped", result=result, why=why)
    return result
