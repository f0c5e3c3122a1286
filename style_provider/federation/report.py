"""What a coordinator's audit log says (F-13)."""

from collections.abc import Mapping

from modify_fl.console import Console
from modify_fl.federated.coordinator_folder import CoordinatorFolder
from modify_fl.federated.holder import holder
from modify_fl.federated.journal import Entry, read_journal

__all__ = ["show_status"]


def show_status(folder: CoordinatorFolder, console: Console) -> Mapping[str, object]:
    """Show whether the plan is served now, its rounds, sites and bytes.

    Raises:
        FederationError: The log cannot be relied on.
        FederationSetupError: The kit is not whole.
    """
    plan, entries, serving = folder.kit().plan, read_journal(folder.journal), holder(folder.path) is not None
    rounds = _latest_rounds(entries)
    sites, names = sorted(folder.nodes().values()), {"bytes_down": 0, "bytes_up": 0}
    ended = [entry for entry in entries if entry.event == "ended"]
    moved = {name: sum(int(entry.facts[name]) for entry in ended) for name in names}
    console.say(f"plan      {folder.path}, {'served now' if serving else 'not served'}")
    console.say(f"sites     {', '.join(sites) or 'none yet'}; {plan.sites} expected, {plan.quorum} needed")
    console.say(f"rounds    {len(rounds)} of {plan.rounds}")
    for entry in rounds:
        facts = entry.facts
        counted = "SKIPPED" if facts["skipped"] else f"{facts['accepted']} of {facts['asked']} updates"
        left_out = f"; {facts['rejected']}" if facts["rejected"] else ""
        console.say(f"          {entry.time} round {facts['round']}: {counted}{left_out}")
    console.say(f"traffic   {moved['bytes_down'] / 1e6:.2f} MB to sites, {moved['bytes_up'] / 1e6:.2f} MB from them")
    return {
        "plan": folder.path, "serving": serving, "sites": sites, "expected": plan.sites, "quorum": plan.quorum,
        "rounds_planned": plan.rounds, "rounds": [{"time": entry.time, **entry.facts} for entry in rounds], **moved,
    }  # fmt: skip


def _latest_rounds(entries: tuple[Entry, ...]) -> list[Entry]:
    """Return the last line about each round: a fresh start and a repeated round replace earlier ones."""
    begun = max((at for at, entry in enumerate(entries) if entry.event == "fresh"), default=0)
    latest = {int(entry.facts["round"]): entry for entry in entries[begun:] if entry.event == "round"}
    return [latest[number] for number in sorted(latest)]
