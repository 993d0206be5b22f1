"""The memory that tensors take at the peak of a training step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.profiler import ProfilerActivity, profile

from recipes.benchmark.step_cost_model import Setting


def peak_memory(setting: Setting, step: Callable[[], None], *, times: int) -> int:
    """Bytes of tensors at the peak of ``times`` steps, beside those before; warmed up.

    As torch's allocators count them: the resident memory of the process also has what they keep.
    """
    for _ in range(times):
        step()
    setting.synchronize()
    if setting.device.type == "cuda":
        before = torch.cuda.memory_allocated(setting.device)
        torch.cuda.reset_peak_memory_stats(setting.device)
        for _ in range(times):
            step()
        return torch.cuda.max_memory_allocated(setting.device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for _ in range(times):
            step()
    with TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = [event for event in events if event["name"] == "[memory]"]
    taken = peak = 0
    for change in sorted(changes, key=lambda event: event["ts"]):
        taken += change["args"]["Bytes"]
        peak = max(peak, taken)
    return peak
