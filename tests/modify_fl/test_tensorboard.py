"""The optional log for TensorBoard."""

import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from modify_fl import tensorboard
from modify_fl.errors import ConfigError
from modify_fl.events import TrainingEvent
from modify_fl.faces.decode import save_png
from modify_fl.tensorboard import BoardLog


def test_public_names() -> None:
    assert tensorboard.__all__ == ["BoardLog"]


def test_missing_package_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(ConfigError, match="tensorboard is not installed"):
        BoardLog(tmp_path / "board")
    assert not (tmp_path / "board").exists()


@pytest.mark.filterwarnings("ignore")
def test_figures_warnings_and_grids_can_be_read_back(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is optional and not installed here")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    samples, folder = tmp_path / "samples", tmp_path / "board"
    samples.mkdir()
    save_png(np.zeros((8, 8, 3), np.uint8), samples / "00000004.png")  # of an earlier part of the run
    with BoardLog(folder, samples=samples) as board:
        board.write(
            TrainingEvent(kind="tick", phase="remap", images_seen=40, images_per_second=7.5, values={"swap": 0.25})
        )
        save_png(np.full((8, 16, 3), 200, np.uint8), samples / "00002000.png")
        board.write(TrainingEvent(kind="warning", images_seen=80, message="memory ran out"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    found = EventAccumulator(str(folder)).Reload()
    (swap,) = found.Scalars("remap/swap")
    assert (swap.step, swap.value) == (40, 0.25)
    assert found.Scalars("pace/images_per_second")[0].value == 7.5
    (grid,) = found.Images("samples")
    assert (grid.step, grid.width, grid.height) == (2000, 16, 8)
    assert b"memory ran out" in found.Tensors("warning/text_summary")[0].tensor_proto.string_val[0]
