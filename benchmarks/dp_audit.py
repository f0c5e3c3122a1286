"""Audit the mechanism of DP-SGD with canaries: the right build and three broken ones (P-63, P-64).

    python benchmarks/dp_audit.py --out docs/results/dp-audit.md [--runs 5] [--canaries 1000]

Trains a small network with the real sampler, engine, noise and a real ledger, at
claims epsilon 1 and 3 (delta 1e-5, per image), and guesses which canaries were in.
Noise multipliers, batch, steps and number of units are those of P-63. Draws come
from the operating system, so no two runs agree; results are kept in ``--work``,
one line a run, and the same command goes on where it stopped. About half a minute
of one core for each run of 1000 canaries. Writes Markdown.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from modify_fl.privacy import engine, noise
from modify_fl.privacy.auditing import audit_one_run, separation
from modify_fl.privacy.ledger import Vault
from modify_fl.privacy.settings import DpSettings

CLAIMS = {3.0: 4.12, 1.0: 10.94}
"""Epsilon under test and the noise multiplier that belongs to it by PRV (P-63)."""

BANDS = {(3.0, 1000): (0.6, 1.6), (3.0, 4000): (0.85, 1.8), (1.0, 1000): (0.0, 0.7), (1.0, 4000): (0.1, 0.75)}
"""Accept bands of the right build, by claim and number of canaries."""

BUILDS = ("correct", "noise/sqrt 2", "noise/4", "clip x10")
TRIALS = 10_000

PAGE = """# Audit of DP-SGD with canaries

Written by `python benchmarks/dp_audit.py`. Lower bounds on epsilon at 95 %, delta 1e-5, unit image, each from one run
of training: {canaries} canaries among 2000 units, batch 256, 500 steps, real sampler, engine (micro), noise and ledger,
on a small network whose gradients are known. An audit can refute a claim; staying below it proves nothing (P-64).

| claim | build | runs | lower bound, mean [range] | asked for | |
|---|---|---|---|---|---|
{rows}

Every run charged its ledger for {charged} steps; median {seconds:.0f} s a run, torch {torch}, one thread.

## Two worlds

Mean difference over standard deviation of {trials} single steps with and without one canary at sigma 0.5; the right
build gives 1 / sigma = 2 within 5 % (P-61).

| build | mu | |
|---|---|---|
{worlds}
"""
BUNDLE = "0" * 64


@contextmanager
def build(name: str) -> Iterator[None]:
    """Break the mechanism in one way for the length of the block."""
    normal, clip = noise.standard_normal, engine.clip
    factor = {"noise/sqrt 2": 0.5**0.5, "noise/4": 0.25}.get(name, 1.0)
    bound = 10.0 if name == "clip x10" else 1.0
    noise.standard_normal = lambda count: normal(count) * factor
    engine.clip = lambda gradient, norm: clip(gradient, bound * norm)
    try:
        yield
    finally:
        noise.standard_normal, engine.clip = normal, clip


def audited(claim: float, name: str, canaries: int) -> dict[str, object]:
    """Audit one run of a build under a vault of its own."""
    settings = DpSettings(n_public=2000, batch=256, steps=500, noise_multiplier=CLAIMS[claim], max_grad_norm=1.0)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as home:
        os.environ["MODIFY_DATA_DIR"] = f"{home}/data"
        photos = Path(home) / "photos"
        photos.mkdir()
        (photos / "canary.png").write_bytes(b"the units of the audit are made by the audit")
        # RDP, the account of record, asks a tenth more than PRV for the same noise (P-32).
        Vault.create(photos, epsilon_max=1.15 * claim + 0.1)
        with Vault.open(photos, run="audit") as vault, build(name):
            found = audit_one_run(
                settings, canaries=canaries, units=max(2000, canaries),
                charge=lambda steps: vault.charge(run="audit", bundle=BUNDLE, settings=settings, steps=steps),
            )  # fmt: skip
            charged = sum(charge.steps for charge in vault.ledger.charges)
    return {
        "claim": claim, "build": name, "canaries": canaries, "bound": found.epsilon_lower, "guesses": found.guesses,
        "correct": found.correct, "charged": charged, "seconds": time.perf_counter() - start,
    }  # fmt: skip


def two_worlds(name: str) -> dict[str, object]:
    """Measure mu of single steps at sigma 0.5 with and without one canary (P-61)."""
    settings = DpSettings(n_public=1, batch=1, steps=1, noise_multiplier=0.5, sampling_rate=1.0, max_grad_norm=0.3)
    with build(name):
        return {"build": name, "mu": separation(settings, trials=TRIALS, charge=lambda _: None)}


def wanted(runs: int, canaries: int) -> Iterator[tuple[float, str, int]]:
    """Yield every run that the page needs: several of the right build, one of each broken one."""
    for claim in CLAIMS:
        for name in BUILDS:
            for _ in range(runs if name == "correct" else 1):
                yield claim, name, canaries


def page(rows: list[dict[str, object]], worlds: list[dict[str, object]], canaries: int) -> str:
    """Return the result page; every judgement is computed."""
    lines = []
    for claim in CLAIMS:
        for name in BUILDS:
            bounds = [float(str(r["bound"])) for r in rows if (r["claim"], r["build"]) == (claim, name)]
            if bounds:
                lines.append(row(claim, name, canaries, bounds))
    mus = [(str(world["build"]), float(str(world["mu"]))) for world in worlds]
    said = [f"| {name} | {mu:.3f} | {'accepted' if abs(mu - 2) <= 0.1 else 'refused'} |" for name, mu in mus]
    return PAGE.format(
        canaries=canaries, rows="\n".join(lines), trials=TRIALS, torch=torch.__version__,
        charged=", ".join(sorted({str(r["charged"]) for r in rows})),
        seconds=statistics.median(float(str(r["seconds"])) for r in rows),
        worlds="\n".join(said),
    )  # fmt: skip


def row(claim: float, name: str, canaries: int, bounds: list[float]) -> str:
    """Return one line of the table."""
    mean = statistics.mean(bounds)
    text = f"{mean:.2f} [{min(bounds):.2f}, {max(bounds):.2f}]"
    if name == "correct":
        low, high = BANDS.get((claim, canaries), (0.0, claim))
        verdict = "within the band" if low <= mean <= high else "OUTSIDE the band"
        asked = f"{low:g} to {high:g}"
    else:
        asked = f"above {claim:g}" if name != "noise/sqrt 2" else "not seen by one run"
        verdict = "the claim is refuted" if mean > claim else "not refuted"
    return f"| epsilon {claim:g} at delta 1e-5, unit image | {name} | {len(bounds)} | {text} | {asked} | {verdict} |"


def main() -> None:
    """Audit what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results/dp-audit.md"))
    parser.add_argument("--work", type=Path, default=Path("runs/dp-audit.jsonl"))
    parser.add_argument("--runs", type=int, default=5, help="runs of the right build at each claim")
    parser.add_argument("--canaries", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in options.work.read_text().splitlines()] if options.work.is_file() else []
    rows = [line for line in done if line.get("canaries") == options.canaries]
    left = list(rows)
    with options.work.open("a", encoding="utf-8") as log:
        for claim, name, canaries in wanted(options.runs, options.canaries):
            known = next((r for r in left if (r["claim"], r["build"]) == (claim, name)), None)
            if known is not None:
                left.remove(known)
                continue
            rows.append(audited(claim, name, canaries))
            log.write(json.dumps(rows[-1]) + "\n")
            log.flush()
            print(rows[-1], flush=True)
    worlds = [two_worlds(name) for name in ("correct", "noise/sqrt 2", "noise/4")]
    options.out.write_text(page(rows, worlds, options.canaries), encoding="utf-8")
    print(options.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
