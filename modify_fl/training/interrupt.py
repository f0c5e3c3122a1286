"""Stopping in good order on Ctrl-C and SIGTERM (U-48)."""

import signal
from types import FrameType, TracebackType
from typing import Self

__all__ = ["StopRequest"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Context in which the first signal asks for a stop and the second one ends at once.

    Only the main thread of the main interpreter may set signal handlers;
    elsewhere the context does nothing and signals keep their meaning.
    """

    def __init__(self) -> None:
        """Start without a request."""
        self.requested = False
        self._old: dict[int, object] = {}

    def __enter__(self) -> Self:
        """Install the handlers."""
        try:
            for number in _SIGNALS:
                self._old[number] = signal.signal(number, self._ask)
        except ValueError:  # not the main thread
            self._old.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the old handlers back."""
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
