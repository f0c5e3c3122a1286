"""The course of a run in the form that TensorBoard reads, for those who ask for it.

TensorBoard is no dependency: it is imported when the first log is opened.
Figures come from events; pictures are the sample grids of stage 1, which lie
beside the run anyway. Stage 2 has none, because a preview shows photos (P-38).
"""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from modify_fl.errors import ConfigError
from modify_fl.events import TrainingEvent

__all__ = ["BoardLog"]


class BoardLog:
    """Writes events as scalars over images seen, warnings as text, sample grids as pictures."""

    def __init__(self, folder: Path, *, samples: Path | None = None) -> None:
        """Open the log.

        Args:
            folder: Gets the event file; made if need be, readable by its owner only.
            samples: Folder in which sample grids appear, named after images seen; none: no pictures.

        Raises:
            ConfigError: TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - late, and only here
        except ImportError as error:
            raise ConfigError(
                "tensorboard is not installed", why="it is an optional part of this package",
                fix="pip install 'modify-fl[tensorboard]', or leave out --tensorboard",
            ) from error  # fmt: skip
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._writer: Any = SummaryWriter(str(folder))
        self._samples = samples
        self._shown = set(samples.glob("*.png")) if samples else set()

    def __enter__(self) -> Self:
        """Return the log itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._writer.close()

    def write(self, event: TrainingEvent) -> None:
        """Take one event, and the sample grids that appeared since the last one."""
        at = event.images_seen
        for name, value in event.values.items():
            self._writer.add_scalar(f"{event.phase}/{name}", value, at)
        if event.images_per_second:
            self._writer.add_scalar("pace/images_per_second", event.images_per_second, at)
        if event.message:
            self._writer.add_text(event.kind, event.message, at)
        for path in sorted(set(self._samples.glob("*.png")) - self._shown) if self._samples else []:
            self._shown.add(path)
            self._writer.add_image("samples", _pixels(path), int(path.stem), dataformats="HWC")


def _pixels(path: Path) -> object:
    """Return a grid as uint8 [H, W, 3]."""
    from modify_fl.faces.decode import decode_image  # noqa: PLC0415 - numpy and Pillow, late

    return decode_image(path)
