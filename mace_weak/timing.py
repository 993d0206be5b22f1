"""Time spent in a part of a step that runs forwards and backwards."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor


class Stopwatch:
    """Adds up the intervals between ``start`` and ``stop``, in seconds.

    On CUDA the marks are events on the stream, read only when ``seconds`` is asked for, so timing
    never makes the host wait in the middle of a step.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._begun: Any = None
        self._intervals: list[tuple[Any, Any]] = []

    def start(self, *_: object) -> None:
        self._begun = self._mark()

    def stop(self, *_: object) -> None:
        if self._begun is not None:
            self._intervals.append((self._begun, self._mark()))
            self._begun = None

    def time_backward_from(self, last: Tensor) -> None:
        """Time the backward pass from ``last``, which was computed last."""
        if last.requires_grad:
            last.register_hook(self.start)

    def time_backward_to(self, first: Tensor) -> None:
        """Time the backward pass to ``first``, a leaf."""
        first.register_hook(self.stop)

    def seconds(self) -> float:
        """The time so far; the watch starts again from zero."""
        intervals, self._intervals = self._intervals, []
        if not self._cuda:
            return sum(end - begin for begin, end in intervals)
        if intervals:
            intervals[-1][1].synchronize()
        return 1e-3 * sum(begin.elapsed_time(end) for begin, end in intervals)

    def _mark(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
