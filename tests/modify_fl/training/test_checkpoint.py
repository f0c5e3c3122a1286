"""Checkpoints (M-52)."""

from pathlib import Path

import pytest
import torch
from torch import nn

from modify_fl.errors import DataError
from modify_fl.training import checkpoint
from modify_fl.training.checkpoint import Checkpoint


def _saved(step: int) -> Checkpoint:
    return Checkpoint(
        step=step, tensors={"net": {"a": torch.full((2,), float(step))}}, values={"images_seen": step * 4}
    )


def test_newest_is_current_and_older_ones_go(tmp_path: Path) -> None:
    """The pointer names the last complete checkpoint; only that one stays."""
    for step in (1, 2):
        checkpoint.save(tmp_path, _saved(step))
    back = checkpoint.load(tmp_path)
    assert back is not None
    assert (back.step, back.values["images_seen"]) == (2, 8)
    assert back.tensors["net"]["a"].tolist() == [2.0, 2.0]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["00000002", "current"]


def test_half_written_checkpoint_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure before the pointer moves leaves the old checkpoint in force."""
    checkpoint.save(tmp_path, _saved(1))

    def full(*_: object) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(tmp_path, _saved(2))
    back = checkpoint.load(tmp_path)
    assert back is not None
    assert back.step == 1


def test_none_where_nothing_was_saved(tmp_path: Path) -> None:
    """A new run folder has no checkpoint."""
    assert checkpoint.load(tmp_path) is None


def test_damaged_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    """A file that cannot be read is a DataError that says how to go on."""
    checkpoint.save(tmp_path, _saved(1))
    (tmp_path / "checkpoints" / "00000001" / "state.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="cannot read the checkpoint") as caught:
        checkpoint.load(tmp_path)
    assert "--fresh" in caught.value.fix


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_optimizer_goes_on_exactly(memory: torch.memory_format) -> None:
    """M-52: moments come back in the memory layout of their parameter, so the next step has equal bits."""

    def build() -> tuple[nn.Module, torch.optim.Adam]:
        torch.manual_seed(0)
        net = nn.Conv2d(4, 4, 3).to(memory_format=memory)
        return net, torch.optim.Adam(net.parameters(), lr=0.1, fused=True)

    def step(net: nn.Module, optimizer: torch.optim.Adam, seed: int) -> None:
        x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed)).to(memory_format=memory)
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()

    straight, optimizer = build()
    step(straight, optimizer, 1)
    weights = {k: v.clone(memory_format=torch.contiguous_format) for k, v in straight.state_dict().items()}
    moments = {
        k: v.clone(memory_format=torch.contiguous_format) for k, v in checkpoint.optimizer_tensors(optimizer).items()
    }
    step(straight, optimizer, 2)

    resumed, other = build()
    resumed.load_state_dict(weights)
    checkpoint.restore_optimizer(other, moments)
    step(resumed, other, 2)
    for a, b in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
