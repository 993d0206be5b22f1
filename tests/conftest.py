"""Which tests can run here, and structures for the tests of the core."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from datafiles import HOSTS
from slurm import Cluster
from torch import Tensor

SIZES = (3, 1, 4)
# each host's tests import it, and no environment has both
collect_ignore = [host for host, version in HOSTS.items() if version is None]
if "mace" in collect_ignore:  # what needs no host is tested once
    collect_ignore += [
        f"recipes/test_{name}.py"
        for name in (
            "cbs_energy_only",
            "frequencies",
            "molecule_data",
            "readme_commands",
            "silicon_data",
        )
    ]


def pytest_report_header() -> str:
    hosts = ", ".join(f"{host} {version or '(left out)'}" for host, version in HOSTS.items())
    return f"hosts whose tests can run here: {hosts}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first, those of the recipes too: at the end other workers would wait."""
    items.sort(
        key=lambda item: "recipes" not in item.path.parts and not item.get_closest_marker("slow")
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    started = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        started.start()
        yield started
    finally:
        started.stop()


@pytest.fixture
def structure() -> Tensor:
    return torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))


@pytest.fixture
def positions(structure: Tensor) -> Tensor:
    """A triangle, a lone atom and a tetrahedron, somewhat distorted, Å."""
    ideal = torch.tensor(
        [
            [0.0, 0.0, 0.0], [1.3, 0.0, 0.0], [0.5, 1.2, 0.0],
            [5.0, 5.0, 5.0],
            [0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0],
        ],
        dtype=torch.float64,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    return ideal + 0.05 * torch.randn(ideal.shape, dtype=torch.float64, generator=generator)


@pytest.fixture
def displacements(positions: Tensor) -> Tensor:
    """Two displacements (2, n_atoms, 3) in Å."""
    generator = torch.Generator().manual_seed(1)
    shape = (2, *positions.shape)
    return 0.03 * torch.randn(shape, dtype=torch.float64, generator=generator)
