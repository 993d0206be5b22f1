"""Every road through NequIP keeps the weak term: a test for each row of the README's table.

The proof is in the numbers: the weak part is not zero, the loss is the sum of its parts, and the
parameters are other ones than those of the same run with the supervised loss alone.
"""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from conftest import package
from roads import ROADS, TANGENT, Start
from torch._dynamo.utils import counters
from training import Run, base_config, changed, train, weak_config

from mace_weak.losses import FORCES, loss_terms
from mace_weak.nequip.train import WeakLightningModule

HEAVY = 1000.0  # so that a few steps tell
WEIGHTS = {
    "weak_taylor": {"weak_taylor_weight": HEAVY},
    "weak_spatial": {"weak_spatial_weight": HEAVY},
    "weak_piwsl": {"weak_taylor_weight": HEAVY, "weak_spatial_weight": HEAVY},
}


@pytest.fixture
def start(files, foundation, foundation_checkpoint) -> Start:
    return Start(files, foundation, foundation_checkpoint)


@pytest.fixture(scope="session")
def thin_start(tmp_path_factory, files) -> Start:
    """With a foundation model of one layer: each takes long to compile."""
    config = changed(base_config(files.molecules), training_module__model__num_layers=1)
    checkpoint = train(tmp_path_factory.mktemp("thin"), config).checkpoint
    return Start(files, package(checkpoint, checkpoint.with_name("thin.nequip.zip")), checkpoint)


@pytest.fixture
def pair(tmp_path, start, request) -> tuple[Run, Run]:
    """A weak run of a road, and the same run with nequip's own loss."""
    if "Allegro" in request.param and find_spec("allegro") is None:
        pytest.skip("nequip-allegro is not installed")
    road = ROADS[request.param]
    config = road.config(start)
    options = {**WEIGHTS[road.loss], **road.options}
    return (
        train(tmp_path / "weak", weak_config(config, road.loss, **options)),
        train(tmp_path / "supervised", config),
    )


@pytest.mark.parametrize("pair", ROADS, indirect=True)
def test_the_weak_term_is_trained_on(pair, request):
    weak, alone = pair
    road = ROADS[request.node.callspec.params["pair"]]
    tangent = road.options.get("weak_anchor") == "tangent"
    terms = [*loss_terms(road.loss), *([FORCES] if tangent else [])]
    parts = [f"weak_{term}" for term in terms]
    for part in parts:
        assert max(weak.column(part)) > 0
        assert any(row.get(f"train_loss_epoch/{part}", 0) > 0 for row in weak.rows)
    for step in weak.steps:
        total = step["supervised"] + sum(step[part] for part in parts)
        assert step["weighted_sum"] == pytest.approx(total, rel=1e-9)
    assert weak.steps[0]["supervised"] == alone.steps[0]["weighted_sum"]
    assert len(weak.steps) == len(alone.steps)
    assert weak.parameters.shape == alone.parameters.shape
    assert float((weak.parameters - alone.parameters).abs().max()) > 1e-8


@pytest.mark.parametrize("pair", ["from scratch"], indirect=True)
def test_validation_is_without_the_weak_terms(pair):
    weak, alone = (
        {name for row in run.rows for name in row if name.startswith("val")} for run in pair
    )
    assert weak == alone


CUDA = pytest.param("gpu", marks=pytest.mark.cuda)


@pytest.mark.parametrize("accelerator", [pytest.param("cpu", marks=pytest.mark.slow), CUDA])
@pytest.mark.parametrize("anchor", ["foundation", "tangent"])
def test_a_compiled_model_has_the_same_loss(tmp_path, thin_start, anchor, accelerator, monkeypatch):
    """Without graph breaks, and compiled in the first epoch only."""
    tangent = anchor == "tangent"
    config, options = (thin_start.settled(), TANGENT) if tangent else (thin_start.tuned(), {})
    eager = weak_config(config, **WEIGHTS["weak_taylor"], **options)
    eager["trainer"]["accelerator"] = accelerator
    compiled = changed(eager, training_module__model__model__compile_mode="compile")
    expected = train(tmp_path / "eager", eager)
    torch._dynamo.reset()
    counters.clear()
    graphs: list[int] = []  # compiled before each step
    trained = WeakLightningModule.training_step

    def counted(*step):
        graphs.append(counters["stats"]["unique_graphs"])
        return trained(*step)

    monkeypatch.setattr(WeakLightningModule, "training_step", counted)
    found = train(tmp_path / "compiled", compiled)
    assert not counters["graph_break"]
    second_epoch = graphs[len(graphs) // 2 :]
    assert set(second_epoch) == {counters["stats"]["unique_graphs"]}
    if tangent:  # no forces: the graph is that of nequip's check before the first step
        assert second_epoch[0] > 0
    else:
        assert graphs[0] < second_epoch[0]
    for name in ("supervised", "weak_taylor", *([f"weak_{FORCES}"] * tangent)):
        assert max(expected.column(name)) > 0
        assert found.column(name) == pytest.approx(expected.column(name), rel=2e-2, abs=1e-6)
