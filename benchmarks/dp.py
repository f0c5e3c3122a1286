"""Cost of a DP step beside a plain step of stage 2, and beside the hooks of Opacus' own ``make_private``.

    TORCH_HOME=weights python benchmarks/dp.py [--batch 16] [--subset lora all] [--rounds 9]

All steps use one model (``quick-64``, random weights, since speed does not depend
on them), one loss (equation 7 with all networks that TORCH_HOME has), one batch of
drawn faces, float32 and one thread; they take turns, so that a busy moment hits all:

* plain: forward, backward of the mean loss, Adam.
* micro, opacus: latent split, clipped per-photo gradients, noise, Adam.
* make_private: Opacus' hooks on E', one backward through everything, its optimiser
  (with noise of torch's generator: Opacus' secure mode needs a package that no longer installs).

Memory is the growth of a process' peak during a step, each kind in a process of
its own (Linux). Prints Markdown; the last lines say whether the bars are reached.
"""

import argparse
import copy
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import torch
from throughput import built_style
from torch import nn

from modify_fl.config import Runtime, Subset, preset
from modify_fl.data import load_images
from modify_fl.networks.encoder import fold_gains
from modify_fl.perceptual import PerceptualNets
from modify_fl.privacy.engine import build_engine
from modify_fl.privacy.noise import add_noise
from modify_fl.training.private_loss import PhotoLoss
from modify_fl.training.runtime import resolve
from modify_fl.training.subsets import open_subset

if TYPE_CHECKING:
    from modify_fl.privacy.settings import Engine

KINDS = ("plain", "micro", "opacus", "make_private")
TIME_BAR, MEMORY_BAR = 1.2, 0.3
SIGMA, BOUND = 2.0, 1.0

Step = Callable[[], object]


class Bench:
    """One model and one batch, and the four kinds of step."""

    def __init__(self, batch: int, subset: Subset) -> None:
        """Build networks and read pictures."""
        chosen = preset("quick-64")
        self.style = built_style(chosen)
        self.style.bundle.payload_digest = "ab" * 32  # type: ignore[misc]
        fold_gains(self.style.model.encoder)
        self.subset, self.offset = subset, self.style.model.offset.w_avg.detach()
        compute = resolve(Runtime(device="cpu", threads=1, precision="fp32"))
        nets = PerceptualNets.find()
        self.names = f"{nets.perceptual.name}, {nets.identity.name}"
        self.loss = PhotoLoss(self.style, config=chosen.stylization, seed=0, compute=compute, nets=nets)
        self.photos = load_images("synthetic", resolution=64, limit=batch).batch(range(batch))

    def trained(self, encoder: nn.Module | None = None) -> list[nn.Parameter]:
        """Open the subset in an encoder, a copy if none is named, and return what is trained."""
        encoder = encoder or copy.deepcopy(self.style.model.encoder)
        open_subset(encoder, self.subset, self.style.digest)
        return [p for p in encoder.parameters() if p.requires_grad]

    def step(self, kind: str) -> Step:
        """Return one kind of step over a fresh E' and optimiser."""
        encoder = copy.deepcopy(self.style.model.encoder)
        trained = self.trained(encoder)
        adam = torch.optim.Adam(trained, lr=1e-4)
        if kind == "plain":
            return lambda: self._plain(encoder, adam)
        if kind == "make_private":
            return self._make_private(encoder, adam)
        engine = build_engine(
            cast("Engine", kind), encoder, self.loss, max_grad_norm=BOUND, offset=self.offset, chunk=len(self.photos)
        )

        def private() -> None:
            total = engine.clipped_sum(iter(self.photos.split(1)), 0)
            update = add_noise(total, noise_multiplier=SIGMA, max_grad_norm=BOUND) / len(self.photos)
            for parameter, part in zip(trained, update.split([p.numel() for p in trained]), strict=True):
                parameter.grad = part.view_as(parameter).float()
            adam.step()

        return private

    def _plain(self, encoder: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        codes = encoder(self.photos) + self.offset
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            self.loss(self.photos, codes, 0).mean().backward()
        optimizer.step()

    def _make_private(self, encoder: nn.Module, adam: torch.optim.Optimizer) -> Step:
        """Return Opacus' way, for comparison only: the package never uses it (section 5)."""
        from opacus import PrivacyEngine

        pictures = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(self.photos), batch_size=len(self.photos))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its secure mode
            module, optimizer, _ = PrivacyEngine().make_private(
                module=encoder.train(), optimizer=adam, data_loader=pictures, noise_multiplier=SIGMA,
                max_grad_norm=BOUND, poisson_sampling=False,
            )  # fmt: skip
        return lambda: self._plain(module, optimizer)


def times(bench: Bench, rounds: int) -> dict[str, float]:
    """Return the shortest time of each kind of step in seconds: other work on a machine only adds; kinds take turns."""
    steps, found = {kind: bench.step(kind) for kind in KINDS}, {kind: [] for kind in KINDS}  # type: ignore[var-annotated]
    for count in range(rounds + 1):
        turn = count % len(KINDS)  # another begins each time: what a step leaves in caches and allocators is shared
        for kind in KINDS[turn:] + KINDS[:turn]:
            step = steps[kind]
            start = time.perf_counter()
            step()
            if count:  # the first of each warms up
                found[kind].append(time.perf_counter() - start)
    return {kind: min(values) for kind, values in found.items()}


def noise_time(numbers: int, rounds: int) -> float:
    """Return the shortest time that the noise of one step takes, in seconds; make_private's is not from the system."""
    total, found = torch.zeros(numbers, dtype=torch.float64), []
    for _ in range(rounds):
        start = time.perf_counter()
        add_noise(total, noise_multiplier=SIGMA, max_grad_norm=BOUND)
        found.append(time.perf_counter() - start)
    return min(found)


def growth(bench: Bench, kind: str) -> int:
    """Return the growth of this process' peak memory during a step, in bytes."""
    step = bench.step(kind)
    step()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before = _status("VmRSS")
    step()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def memories(options: SimpleNamespace, subset: str) -> dict[str, int]:
    """Measure each kind in a process of its own."""
    found = {}
    for kind in KINDS:
        words = [sys.executable, __file__, "--batch", str(options.batch), "--subset", subset, "--memory", kind]
        found[kind] = int(subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[-1])  # noqa: S603
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--subset", nargs="+", default=["lora", "all"], choices=["heads", "lora", "all"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--memory", choices=KINDS, help="only print the memory of one kind of step")
    options = cast("SimpleNamespace", parser.parse_args())
    if options.memory:
        print(growth(Bench(options.batch, options.subset[0]), options.memory))
        return
    print(f"batch {options.batch}, one thread, float32, torch {torch.__version__}\n")
    print("| subset | step | s | x plain | memory, MB | x plain |\n|---|---|---|---|---|---|")
    verdicts, notes = [], []
    for subset in options.subset:
        bench = Bench(options.batch, subset)
        spent, held = times(bench, options.rounds), memories(options, subset)
        for kind in KINDS:
            slow, large = spent[kind] / spent["plain"], held[kind] / held["plain"]
            print(f"| {subset} | {kind} | {spent[kind]:.2f} | {slow:.2f} | {held[kind] / 1e6:.0f} | {large:.2f} |")
        numbers = sum(p.numel() for p in bench.trained())
        noise = noise_time(numbers, options.rounds)
        notes.append(f"{subset}: {numbers} numbers are trained, and their noise takes {noise:.3f} s a step")
        extra = (held["micro"] - held["plain"]) / held["plain"]
        verdicts += [
            (f"{subset}: micro at most {TIME_BAR} x the time of plain", spent["micro"] <= TIME_BAR * spent["plain"]),
            (f"{subset}: micro at most {MEMORY_BAR} x more memory than plain", extra <= MEMORY_BAR),
            *((f"{subset}: {kind} not slower than make_private", spent[kind] <= spent["make_private"])
              for kind in ("micro", "opacus")),
        ]  # fmt: skip
    print(f"\nloss networks: {bench.names}\n")
    for note in notes:
        print(f"- {note}")
    for bar, reached in verdicts:
        print(f"- {bar}: {'reached' if reached else 'MISSED'}")


if __name__ == "__main__":
    main()
