"""Where a step computes, how often its host waits, and what it leaves behind: on CPU and CUDA."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from training import train

from mace_weak.mace.loss import WeakLoss
from recipes.benchmark.step_cost import stepper
from recipes.benchmark.step_cost_model import make_setting
from recipes.benchmark.step_cost_variants import VARIANTS

CUDA = pytest.param("cuda", marks=pytest.mark.cuda)
DEVICES = ["cpu", CUDA]
ANCHORED = [name for name, variant in VARIANTS.items() if variant.anchored]
WAITS = (
    "aten::_local_scalar_dense", "aten::nonzero", "cudaStreamSynchronize", "cudaDeviceSynchronize",
    "cudaEventSynchronize", "Memcpy DtoH (Device -> Pageable)", "Memcpy DtoH (Device -> Pinned)",
)  # fmt: skip


@pytest.fixture(scope="module", params=DEVICES)
def setting(request):
    return make_setting("small", torch.device(request.param), structures=3)


@pytest.fixture
def losses(monkeypatch) -> list[WeakLoss]:
    """The weak losses that took a step, in order."""
    used: list[WeakLoss] = []
    genuine = WeakLoss.forward

    def forward(loss, *args, **kwargs):
        used.append(loss)
        return genuine(loss, *args, **kwargs)

    monkeypatch.setattr(WeakLoss, "forward", forward)
    return used


def settle(losses: list[WeakLoss]) -> None:
    """Read what the steps so far left to be read, as MACE's logger does after each step."""
    for loss in losses:
        loss.bridge.ledger.settle()
    losses.clear()


def waits(step, device: torch.device) -> Counter[str]:
    """How often the host waits for the device in a step."""
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        step()
    return Counter(event.name for event in profiler.events() if event.name in WAITS)


@pytest.mark.parametrize("name", ANCHORED)
def test_the_weak_part_never_waits(setting, losses, name):
    """The host waits as often as in the step of the supervised loss."""
    counts = {}
    for each in ("plain", name):
        step = stepper(setting, VARIANTS[each])
        for _ in range(VARIANTS[each].period):
            step()
        settle(losses)
        counts[each] = waits(step, setting.device)
    assert counts["plain"]["aten::_local_scalar_dense"] > 0  # so the count does count
    assert counts[name] == counts["plain"]


def test_a_wait_is_counted(setting):
    """The count finds a wait that somebody adds."""
    step = stepper(setting, VARIANTS["plain"])

    def waiting() -> None:
        step()
        float(setting.batch.positions.detach().sum())

    step()
    assert sum(waits(waiting, setting.device).values()) > sum(waits(step, setting.device).values())


def test_all_lies_on_the_device(setting, losses):
    stepper(setting, VARIANTS["weak_piwsl, anchored"])()
    (loss,) = losses
    anchor = loss.bridge.anchor.model
    (entry,) = loss.bridge.ledger._pending
    tensors = [*anchor.parameters(), *anchor.buffers(), *loss.buffers()]
    tensors += [*entry.parts.values(), *entry.residuals.values(), entry.supervised]
    assert {tensor.device.type for tensor in tensors} == {setting.device.type}


@pytest.mark.cuda
@pytest.mark.slow
def test_memory_is_bounded_over_1000_steps(losses):
    setting = make_setting("small", torch.device("cuda"), structures=3)
    step = stepper(setting, VARIANTS["weak_piwsl, anchored"])
    taken = []
    for number in range(1000):
        step()
        settle(losses)
        if number in (99, 999):
            torch.cuda.synchronize()
            taken.append(torch.cuda.memory_allocated())
    assert taken[1] <= taken[0]


@pytest.mark.cuda
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-6), ("float32", 1e-2)])
def test_cuda_gives_the_losses_of_the_cpu(tmp_path, finetune_flags, dtype, tolerance):
    flags = [*finetune_flags, "--loss=weak_piwsl", "--weak_schedule=constant", "--lr=0.0001"]
    if dtype == "float32":
        flags += ["--default_dtype=float32", "--E0s=foundation"]
    cpu = train(tmp_path / "cpu", *flags)
    cuda = train(tmp_path / "cuda", *flags, "--device=cuda")
    for name in ("loss_taylor", "loss_spatial"):
        assert max(cpu.column(name)) > 0
        assert cuda.column(name) == pytest.approx(cpu.column(name), rel=tolerance)
