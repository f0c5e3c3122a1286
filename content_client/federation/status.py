"""What a site's own audit log says, for its owner (F-13)."""

from collections.abc import Mapping

from modify_fl.console import Console
from modify_fl.federated.holder import holder
from modify_fl.federated.journal import Entry, read_journal
from modify_fl.federated.site_folder import SiteFolder

__all__ = ["show_status"]


def show_status(site: SiteFolder, console: Console) -> Mapping[str, object]:
    """Show whether the site has joined, what it has answered and refused, and what that has cost.

    Raises:
        FederationError: The log cannot be relied on.
        FederationPolicyError: There is no valid policy.
    """
    entries, policy = read_journal(site.journal), site.policy()
    answered = [entry for entry in entries if entry.event == "answered"]
    refused = [entry for entry in entries if entry.event in {"refused", "failed"}]
    sent = sum(int(entry.facts.get("bytes", 0)) for entry in answered)
    joined = holder(site.path) is not None
    console.say(f"site      {site.path}, {'joined' if joined else 'not joined'}")
    console.say(f"policy    holds until {policy.expires}, {policy.max_rounds - _asked(entries)} rounds left")
    console.say(f"answered  {len(answered)} rounds, {sent / 1e6:.2f} MB sent")
    for entry in answered:
        spent = f", epsilon {entry.facts['epsilon']:.3f} so far" if "epsilon" in entry.facts else ""
        console.say(
            f"          {entry.time} round {entry.facts['round']}: norm {entry.facts['norm']:.3g}, "
            f"sent {entry.facts['norm_sent']:.3g}{spent}"
        )
    for entry in refused:
        console.say(f"{entry.event:9} {entry.time} {entry.facts.get('word')}: {entry.facts.get('why')}")
    return {
        "site": site.path, "joined": joined, "rounds_left": policy.max_rounds - _asked(entries), "bytes": sent,
        "answered": [{"time": entry.time, **entry.facts} for entry in answered],
        "refused": [{"time": entry.time, "event": entry.event, **entry.facts} for entry in refused],
    }  # fmt: skip


def _asked(entries: tuple[Entry, ...]) -> int:
    return sum(entry.event == "asked" for entry in entries)
