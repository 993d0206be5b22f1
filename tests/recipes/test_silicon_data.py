"""The data of silicon's foundation models, in small."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

from recipes.benchmark.make_silicon import LEVELS, Level, frames_of_all, silicon_calculator

# of ASE's Langevin dynamics, by which the data were made
pytestmark = pytest.mark.filterwarnings("ignore:The implementation of `fixcm:FutureWarning")


class Moody(Calculator):
    """Fails at every second structure."""

    implemented_properties = ("energy", "forces", "stress")
    calls = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        type(self).calls += 1
        if self.calls % 2:
            raise CalculationFailed("not converged")
        self.results = {"energy": -1.0, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}


def small(level: Level, **changes) -> Level:
    trajectories = {"crystal": 1, "vacancy": 1, "slab": 0, "liquid": 0}
    return replace(level, cubic=False, trajectories=trajectories, frames=1, **changes)


@pytest.mark.parametrize("name", LEVELS)
def test_frames_have_the_labels_of_their_level(name):
    crystal, vacancy = frames_of_all(small(LEVELS[name]), seed=0)
    assert [len(crystal), len(vacancy)] == [16, 15]
    assert vacancy.info["config_type"] == "vacancy"
    calculator = LEVELS[name].calculator()
    for frame in (crystal, vacancy):
        energy, forces = frame.info["REF_energy"], frame.arrays["REF_forces"]
        frame.calc = calculator
        assert frame.get_potential_energy() == pytest.approx(energy, abs=1e-5)
        np.testing.assert_allclose(frame.get_forces(), forces, atol=2e-5)
        np.testing.assert_allclose(frame.get_stress(), frame.info["REF_stress"], atol=1e-6)


def test_the_levels_are_of_the_same_structures():
    own, other = (
        list(frames_of_all(small(LEVELS["sw"], calculator=make), seed=3))
        for make in (silicon_calculator, LEVELS["gfn1"].calculator)
    )
    for one, two in zip(own, other, strict=True):
        np.testing.assert_array_equal(one.positions, two.positions)
        assert one.info["REF_energy"] != two.info["REF_energy"]


def test_a_frame_that_cannot_be_labelled_is_left_out():
    frames = list(frames_of_all(small(LEVELS["sw"], calculator=Moody), seed=0))
    assert [frame.info["config_type"] for frame in frames] == ["vacancy"]
