"""How often the limits of P-79 are passed by chance alone, where a bundle gives nothing away.

    python benchmarks/leakage_chance.py --audits 500

Scores of training and held-out images, and distances of drawn pictures and of held-out images, are drawn from one
distribution; the figures and verdicts are those of the real audit. Spaces and attacks are drawn independently,
which is the worst case: those of real pictures agree more.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence

import torch

from modify_fl.datasets import StyleData
from style_provider.leakage.copies import Neighbours
from style_provider.leakage.findings import HEADLINES, Finding, attack_findings, copy_findings
from style_provider.leakage.limits import judge

SIZES = ((60, 20), (110, 36), (243, 80), (300, 100), (1202, 134))
"""Training and held-out images: what ``package`` sets aside of 80, 146, 323, 400 and 1336."""
ATTACKS = ("reconstruction, L1", "reconstruction, LPIPS", "critic")
BLUR = "reconstruction, L1, against a blur"
SPACES = ("pixels", "LPIPS", "faces")
CLASSES: Sequence[StyleData] = ("confidential", "licensed")
_DRAWN, _COMPLETED = 2001, 72


def audit(trained: int, held: int, draws: torch.Generator) -> list[Finding]:
    """Return the findings of an audit in which nothing tells training images from others."""

    def rows(count: int) -> dict[str, torch.Tensor]:
        return {space: torch.rand(count, generator=draws) for space in SPACES}

    near = Neighbours(
        to_trained=rows(_DRAWN), nearest={}, to_held=rows(_DRAWN), to_fellows=rows(_DRAWN), floor=rows(held),
        tau={}, extracted=torch.empty(0),
    )  # fmt: skip
    names = [*(word for name in ATTACKS for word in (name, f"{name}, calibrated")), BLUR]
    scores = {name: (torch.randn(trained, generator=draws), torch.randn(held, generator=draws)) for name in names}
    tried = [min(_COMPLETED, count) for count in (trained, held)]
    for name in ("completion", "inversion"):
        scores[name] = (torch.randn(tried[0], generator=draws), torch.randn(tried[1], generator=draws))
    return [*copy_findings(near), *attack_findings(scores)]


def rates(trained: int, held: int, audits: int, seed: int) -> dict[str, float]:
    """Return shares of audits: by figure that warned, and by class that refused for a figure, or for want of one."""
    found: Counter[str] = Counter()
    draws = torch.Generator().manual_seed(seed)
    for _ in range(audits):
        findings = audit(trained, held, draws)
        warned = [sentence for sentence in judge(findings, "public", held_out=held).warnings if "above" in sentence]
        for name in HEADLINES:
            found[name] += any(sentence.startswith(f"{name} ") for sentence in warned)
        for style_data in CLASSES:
            refusals = judge(findings, style_data, held_out=held).refusals
            found[f"{style_data}: too much"] += any("above" in sentence for sentence in refusals)
            found[f"{style_data}: unknown"] += any("not measured" in sentence for sentence in refusals)
    return {name: count / audits for name, count in found.items()}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audits", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    columns = [*HEADLINES, *(f"{c}: {what}" for c in CLASSES for what in ("too much", "unknown"))]
    header = ["trained + held out", *columns]
    for words in (header, ["---"] * len(header)):
        print(f"| {' | '.join(words)} |")
    for trained, held in SIZES:
        found = rates(trained, held, options.audits, options.seed)
        print(f"| {trained} + {held} | {' | '.join(f'{found.get(name, 0):.1%}' for name in columns)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
