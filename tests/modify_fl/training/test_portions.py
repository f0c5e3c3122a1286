"""A batch in portions: equal gradients, and what happens where memory runs out (U-10)."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from modify_fl import losses
from modify_fl.artifacts import LoadedStyle
from modify_fl.config import Budget, Preset, StylizationConfig
from modify_fl.data import ImageSet
from modify_fl.errors import MemoryShortError
from modify_fl.perceptual import PerceptualNets
from modify_fl.training import checkpoint
from modify_fl.training.encapsulation import Encapsulation, encapsulate
from modify_fl.training.portions import Portions, memory_is_short
from modify_fl.training.runtime import resolve
from modify_fl.training.schedule import Schedule
from modify_fl.training.stage2 import Stylization
from tests.modify_fl.training.conftest import RUNTIME

SHORT = RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried ...")

# Eight pictures of twelve, half of them with the style rows of a neighbour, all terms from the first step.
EARLY = {"batch": 8, "discriminator_start": 0.0, "identity_start": 0.0, "parts": (0.0, 0.0, 0.5, 0.5), "mix": 0.6}


def _stage1(
    images: ImageSet, preset: Preset, nets: PerceptualNets, *, micro: int, remap: bool = False
) -> Encapsulation:
    total = 80 * preset.encapsulation.batch
    schedule = replace(Schedule.plan(preset.encapsulation, total), **({"remap_start": 0} if remap else {}))
    stage = Encapsulation(images, preset=preset, schedule=schedule, seed=5, compute=resolve(RUNTIME), nets=nets)
    stage.portions.micro = micro
    return stage


def _gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def _same(found: dict[str, Tensor], wanted: dict[str, Tensor], rel: float) -> None:
    assert found.keys() == wanted.keys()
    assert found
    for name, value in wanted.items():
        difference = (found[name] - value).norm().item()
        assert difference <= rel * value.norm().item() + 1e-8, name


@pytest.mark.parametrize("recipe", ["own", "paper"])
@pytest.mark.parametrize("remap", [False, True])
@pytest.mark.parametrize("micro", [1, 2, 3, 4])
def test_portions_give_the_gradient_of_the_whole_batch(
    paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets, paper_recipe: dict[str, object], *,
    micro: int, remap: bool, recipe: str,
) -> None:  # fmt: skip
    """Both phases, both penalties (step 0 has one), mixed pictures and the moment term: to 1e-5."""
    preset = tiny(**((paper_recipe | {"batch": 8, "mix": 0.5}) if recipe == "paper" else EARLY))
    whole, cut = (_stage1(paintings, preset, no_nets, micro=size, remap=remap) for size in (8, micro))
    wanted, found = whole.step(), cut.step()
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name
    _same(_gradients(cut.model), _gradients(whole.model), 1e-5)
    # The fakes of Dis come from networks that have not moved yet, so its gradients agree as well.
    _same(_gradients(cut.discriminator), _gradients(whole.discriminator), 1e-5)


@pytest.mark.parametrize("source", ["e", "mix"])
def test_portions_of_stage_2_give_the_gradient_of_the_whole_batch(
    style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets, source: str
) -> None:
    config = StylizationConfig(batch=8, steps=6, subset="all", pseudo_real=source)  # type: ignore[arg-type]
    stages = []
    for micro in (8, 3):
        stage = Stylization(
            style, photos, mode="offline", config=config, total=48, seed=3, compute=resolve(RUNTIME), nets=no_nets
        )
        stage.portions.micro = micro
        stage.step()
        stages.append(stage)
    whole, cut = stages
    _same(_gradients(cut.encoder), _gradients(whole.encoder), 1e-5)
    assert cut.adversary is not None
    assert whole.adversary is not None
    _same(_gradients(cut.adversary.discriminator), _gradients(whole.adversary.discriminator), 1e-5)


class _Shortage:
    """Runs out of memory at given calls of a function, as the allocator does: with part of the work done."""

    def __init__(self, function: Callable[..., object], calls: set[int], error: BaseException) -> None:
        self.function, self.calls, self.error, self.count = function, calls, error, 0

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.count += 1
        if self.count in self.calls:
            raise self.error
        return self.function(*args, **kwargs)


PLACES = [
    "swap",  # phase B, networks called
    "adversarial_generator",  # phase A and B, Dis called for E, D and M
    "adversarial_discriminator",  # after the optimiser of E and D has stepped
    "r1_penalty",
]


@pytest.mark.parametrize("place", PLACES)
def test_run_that_ran_out_of_memory_ends_as_the_one_that_did_not(
    tmp_path: Path, paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets,
    monkeypatch: pytest.MonkeyPatch, *, place: str,
) -> None:  # fmt: skip
    """The batch of 8 falls to portions of 4 and then of 2, is said twice, and stays so in the checkpoint."""
    events: list[tuple[str, str]] = []

    def run(folder: Path) -> nn.Module:
        return encapsulate(
            paintings, preset=tiny(**EARLY), budget=Budget.parse("6steps"), seed=5, runtime=RUNTIME, nets=no_nets,
            folder=folder, emit=lambda event: events.append((event.kind, event.message)),
        ).model  # fmt: skip

    plain = run(tmp_path / "plain").state_dict()
    events.clear()
    monkeypatch.setattr(losses, place, _Shortage(getattr(losses, place), {1, 3}, SHORT))
    short = run(tmp_path / "short").state_dict()
    told = [message for kind, message in events if kind == "warning" and "memory ran out" in message]
    assert [message.rpartition(" of ")[2] for message in told] == [
        "4, with the same result", "2, with the same result",
    ]  # fmt: skip
    saved = checkpoint.load(tmp_path / "short")
    assert saved is not None
    assert saved.values["micro"] == 2
    far = sum((short[key] - value).norm().item() ** 2 for key, value in plain.items()) ** 0.5
    assert far < 1e-3 * sum(value.norm().item() ** 2 for value in plain.values()) ** 0.5


def test_measuring_the_style_set_is_cut_as_well(
    paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Phase B begins with all pictures: codes are computed again in smaller groups, and nothing is doubled."""
    plain, short = (_stage1(paintings, tiny(**EARLY), no_nets, micro=8) for _ in range(2))
    plain._enter_remap()
    monkeypatch.setattr(short, "_style_codes", _Shortage(short._style_codes, {2}, MemoryError()))
    short._enter_remap()
    assert short.portions.micro == 4
    assert torch.allclose(short.style_mean, plain.style_mean, atol=1e-5)
    assert len(short.portions.notices()) == 1
    assert short.portions.notices() == ()


def test_smallest_portion_that_does_not_fit_ends_the_run(
    tmp_path: Path, paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    everything = _Shortage(
        losses.adversarial_generator, set(range(1, 99)), torch.OutOfMemoryError("CUDA out of memory.\nx")
    )
    monkeypatch.setattr("modify_fl.losses.adversarial_generator", everything)
    with pytest.raises(MemoryShortError, match="single image") as caught:
        encapsulate(
            paintings, preset=tiny(**EARLY), budget=Budget.parse("4steps"), seed=5, runtime=RUNTIME, nets=no_nets,
            folder=tmp_path, emit=lambda _: None,
        )  # fmt: skip
    assert everything.count == 4  # 8, 4, 2, 1
    assert (caught.value.exit_code, caught.value.code) == (12, "E_MEMORY")
    assert caught.value.why == "CUDA out of memory."
    assert "smaller preset" in caught.value.fix


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    portions = Portions(8)
    with pytest.raises(RuntimeError, match="shape"):
        portions.each(_Shortage(len, {1}, RuntimeError("shape mismatch")), begin=list)  # type: ignore[arg-type]
    assert portions.cut is None
    assert memory_is_short(SHORT)
    assert not memory_is_short(OSError("cannot allocate memory"))


def test_portions_cover_the_batch_and_their_weights_add_up() -> None:
    portions = Portions(8)
    assert portions.parts() == [slice(0, 8)]
    portions.restore(3)
    assert portions.parts() == [slice(0, 3), slice(3, 6), slice(6, 8)]
    assert sum(map(portions.weight, portions.parts())) == pytest.approx(1)
    assert portions.cut == 3
    portions.restore(None)
    assert portions.cut == 3
