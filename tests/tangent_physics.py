"""What the tangent model of a host's model must show, whatever the host.

Each host's tests inherit ``TangentPhysics`` and give a fixture ``parametric``: the function that
makes a ``ParametricModel`` of structures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import read
from physics import displacements

from mace_weak.errors import WeakLossError
from mace_weak.tangent.error_bars import ErrorBars
from mace_weak.tangent.evidence import Choice
from mace_weak.tangent.fit import Account, Tangent, fit
from mace_weak.tangent.gradients import (
    Coordinates,
    Features,
    TangentPotential,
    coordinates_of,
    force_rows,
    scales_of,
)
from mace_weak.tangent.labels import Labels
from mace_weak.tangent.plan import Settings
from mace_weak.tangent.prior import PLACES_PER_ROW
from mace_weak.tangent.storage import fingerprint, load, save, solved
from mace_weak.tangent.teaching import COPIES, LessonPlan, lessons

Parametric = Callable[[list[Atoms]], Any]

ACCOUNT = Account(
    energies=0, force_components=0, choice=Choice(1e-3, 1.0, {}, 0.1), inclusion={},
    energy_error=0.0, calibration=1.0, force_error=0.1, foundation_force_error=0.3,
    force_change=0.3,
)  # fmt: skip


def moved_at_random(own: Any, *, size: float = 0.05) -> Tangent:
    """A tangent model with a random change of all parameters."""
    scale = scales_of(own.parameters)
    coordinates = Coordinates(own.parameters, torch.ones(len(scale), dtype=torch.bool), scale)
    generator = torch.Generator().manual_seed(0)
    change = size * torch.randn(len(coordinates), dtype=torch.float64, generator=generator)
    n_kinds = own.counts.shape[1]
    return Tangent(coordinates, change, np.zeros(n_kinds), ACCOUNT)


def tangent_potential(own: Any, tangent: Tangent) -> TangentPotential:
    return tangent.potential(own, range(len(own.sizes)))


def labels_of(own: Any, frames: list[Atoms]) -> Labels:
    energies = np.array([atoms.info["REF_energy"] for atoms in frames])
    start = own.predicted(lambda done: None)
    return Labels.beyond(start, own.counts, energies, [None] * len(frames))


class TangentPhysics:
    """Tests of a host's model as a function of its parameters.

    ``present`` is the share of the parameters that two elements of four leave at most.
    """

    present: ClassVar[float] = 0.9
    rounding: ClassVar[float] = 1e-8  # of slopes by finite differences

    def test_energies_and_forces_are_the_derivative_along_the_parameters(self, parametric, frames):
        own = parametric(frames)
        tangent = moved_at_random(own)
        found = tangent_potential(own, tangent).rest()
        step, values = 1e-4, {}
        before = [parameter.detach().clone() for parameter in own.parameters]
        directions = tangent.coordinates.directions(tangent.change)
        for sign in (-1, 0, 1):
            with torch.no_grad():
                for parameter, start, direction in zip(
                    own.parameters, before, directions, strict=True
                ):
                    parameter.copy_(start + sign * step * direction)
            values[sign] = own.predicted(lambda done: None)
        energy = values[0].energies + (values[1].energies - values[-1].energies) / (2 * step)
        np.testing.assert_allclose(found.energy.numpy() + values[0].constants, energy, rtol=1e-7)
        forces = [
            start + (there - back) / (2 * step)
            for start, there, back in zip(
                values[0].forces, values[1].forces, values[-1].forces, strict=True
            )
        ]
        expected = np.concatenate(forces)
        np.testing.assert_allclose(found.forces.numpy(), expected, rtol=1e-5, atol=1e-7)

    def test_forces_are_the_slopes_of_the_energies(self, parametric, frames):
        own = parametric(frames)
        potential = tangent_potential(own, moved_at_random(own))
        moves = 1e-4 * displacements(frames) / 0.05
        there = potential.displaced(torch.stack([moves[0], -moves[0]]), forces=False).energy
        forces = potential.rest().forces
        work = torch.zeros(3).index_add(0, potential.structure, (forces * moves[0]).sum(dim=1))
        torch.testing.assert_close((there[1] - there[0]) / 2, work, rtol=1e-5, atol=1e-10)

    def test_rows_of_forces_are_the_slopes_of_the_rows_of_energies(self, parametric, frames):
        own = parametric(frames[1:2])
        coordinates, surface = coordinates_of(own), own.surface([0])
        rows = torch.stack(list(force_rows(surface, coordinates)))
        step = torch.zeros(3, 3)
        step[1, 2] = 1e-4
        there = torch.stack([step, -step])
        features = Features(surface, coordinates).displaced(there, forces=False)
        slope = (features.energy[0, 0] - features.energy[1, 0]) / 2e-4
        torch.testing.assert_close(-slope, rows[5], rtol=1e-5, atol=self.rounding)

    def test_parameters_of_absent_elements_are_left_out(self, parametric, files):
        water = [atoms for atoms in read(files.molecules, ":") if len(atoms) == 3][:2]
        some = coordinates_of(parametric(water))
        all_of_them = coordinates_of(parametric(read(files.molecules, ":")))
        assert len(some) < self.present * len(all_of_them)
        assert bool((some.active <= all_of_them.active).all())

    def test_the_solution_does_not_depend_on_the_order_of_structures(self, parametric, files):
        frames = read(files.ethanol, ":8")
        changes = []
        for chosen in (frames, frames[::-1]):
            own = parametric(chosen)
            tangent, _ = fit(own, labels_of(own, chosen), Settings())
            changes.append(tangent.change)
        torch.testing.assert_close(*changes, rtol=1e-3, atol=1e-6 * float(changes[0].abs().max()))

    def test_sketched_rows_give_the_same_forces(self, parametric, files):
        """The fewest places for each row are enough."""
        frames = read(files.ethanol, ":8")
        own = parametric(frames)
        labels = labels_of(own, frames)
        settings = Settings(directions=1)
        whole, solution = fit(own, labels, settings)
        n_rows = len(solution.problem.gram)
        assert len(whole.coordinates) > PLACES_PER_ROW * n_rows  # so it is sketched
        sketched, _ = fit(own, labels, replace(settings, memory=8.0 * PLACES_PER_ROW * n_rows**2))
        assert sketched.account.force_error == pytest.approx(whole.account.force_error, rel=0.1)
        start = tangent_potential(own, replace(whole, change=0.0 * whole.change)).rest().forces
        one, other = (tangent_potential(own, each).rest().forces for each in (whole, sketched))
        assert float((other - one).norm()) < 0.15 * float((one - start).norm())

    def test_a_file_holds_the_tangent_model_of_its_own_labels_alone(
        self, parametric, files, tmp_path
    ):
        frames = read(files.ethanol, ":8")
        own = parametric(frames)
        labels, settings = labels_of(own, frames), Settings()
        tangent, _ = fit(own, labels, settings, error_bars=True)
        mark, path = fingerprint(own, labels, settings), tmp_path / "solution.npz"
        save(path, tangent, mark)
        said: list[str] = []
        known = solved(own, labels, settings, path, say=said.append)
        assert said == [f"the tangent model is that of {path}"]
        assert known.account == tangent.account
        before, after = (tangent_potential(own, one).rest() for one in (tangent, known))
        torch.testing.assert_close(after.energy, before.energy, rtol=0, atol=0)
        torch.testing.assert_close(after.forces, before.forces, rtol=0, atol=0)
        others = Labels(labels.counts, labels.energies + 1e-3 * np.arange(8), labels.forces)
        assert load(path, own.parameters, fingerprint(own, others, settings)) is None
        # sums of a GPU differ in their last digits
        same = Labels(labels.counts, labels.energies + 1e-11 * np.arange(8), labels.forces)
        assert load(path, own.parameters, fingerprint(own, same, settings)) is not None

    def test_lessons_have_the_neighbours_of_their_places(self, parametric):
        """Atoms of a crystal that come within the cutoff when they move."""
        crystal = bulk("C", "diamond", a=3.72, cubic=True)  # fifth neighbours at 4.05 Å
        own = parametric([crystal])
        tangent, taught = moved_at_random(own), []

        def copies(moves: torch.Tensor) -> list[Atoms]:
            taught.extend(crystal.copy() for _ in moves)
            for atoms, move in zip(taught[-len(moves) :], moves, strict=True):
                atoms.positions += move.numpy()
            return taught[-len(moves) :]

        found = list(
            lessons(own, tangent, LessonPlan(), lambda _, moves: parametric(copies(moves)))
        )
        assert len(found) == len(taught) == 1 + COPIES
        at_rest = tangent.potential(own, [0])
        kept = [at_rest.displaced(one.displacement[None], forces=False).energy for one in found]
        for lesson, atoms in zip(found, taught, strict=True):
            expected = tangent_potential(parametric([atoms]), tangent).rest()
            assert lesson.energy == pytest.approx(float(expected.energy), abs=1e-6)
            torch.testing.assert_close(lesson.forces, expected.forces, atol=1e-6, rtol=0)
        differences = [
            abs(float(one) - lesson.energy) for one, lesson in zip(kept, found, strict=True)
        ]
        assert differences[0] < 1e-6 < max(differences)

    def test_error_bars_are_those_of_the_posterior(self, parametric, files, tmp_path):
        """From a file, and on a model with other parameters, as one that learned has."""
        frames = read(files.ethanol, ":8")
        own = parametric(frames)
        tangent, solution = fit(own, labels_of(own, frames), Settings(), error_bars=True)
        path = tmp_path / "error_bars.npz"
        ErrorBars.of(tangent, own, own).save(path, mark="mine")
        learned = parametric(frames)
        with torch.no_grad():
            for parameter in learned.parameters:
                parameter.mul_(1.1)
        bars = ErrorBars.load(path, mark="mine").on(learned)
        found = [bars.spread(number, own.counts[number]) for number in range(8)]
        forces = np.sqrt(np.mean([spread.forces**2 for spread in found]))
        assert forces == pytest.approx(tangent.account.force_error, rel=0.5)
        _, left_out = solution.left_out()
        energies = np.array([spread.energy for spread in found]) / 9**0.5
        assert np.all(energies < 1.01 * np.hypot(left_out, tangent.account.choice.noise))
        with pytest.raises(WeakLossError, match="has the error bars of another model"):
            ErrorBars.load(path, mark="another")
        path.write_bytes(b"no archive")
        with pytest.raises(WeakLossError, match="cannot be read as error bars"):
            ErrorBars.load(path, mark="mine")
