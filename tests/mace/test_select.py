"""``mace-weak select`` with a MACE model: what it chooses, refuses, finds and writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read, write
from datafiles import QUICKSTART
from typer.testing import CliRunner

from mace_weak.command import select as selection
from mace_weak.command.app import select
from mace_weak.errors import WeakLossError
from mace_weak.structures import bare
from mace_weak.tangent.picking import Gradients

METHODS = {
    "forces": lambda foundation: [f"--model={foundation}"],
    "random": lambda foundation: ["--method=random"],
}
POOL = QUICKSTART / "data" / "ethanol_pbe_test.xyz"


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Path:
    """Sixty different structures of ethanol with their labels, as ASE likes to have them."""
    frames = read(POOL, ":60")
    for atoms in frames:
        atoms.info["remark"] = f"energy {atoms.info['REF_energy']:.6f}"
    path = tmp_path_factory.mktemp("pool") / "pool.xyz"
    write(path, frames)
    return path


def run(*arguments: object):
    app = typer.Typer()
    app.command()(select)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def result_of(*arguments: object) -> dict:
    done = run(*arguments, "--json")
    assert done.exit_code in (0, 1), done.output
    content = json.loads(done.stdout)
    assert content["status"] == done.exit_code
    return content


def test_of_a_model_with_several_heads_one_is_named(pool, two_heads, tmp_path):
    arguments = (pool, "--n=2", f"--model={two_heads}", f"--out={tmp_path / 'chosen.xyz'}")
    refused = run(*arguments)
    assert "name the one to fine-tune by --head" in str(refused.exception)
    result_of(*arguments, "--head=Default")
    assert len(read(tmp_path / "chosen.xyz", ":")) == 2


def test_forces_are_settled_better_than_by_random_structures(pool, foundation, tmp_path):
    """In the table; copies and labelled structures are not chosen."""
    frames = read(pool, ":")
    crowd, known, out = (tmp_path / name for name in ("pool.xyz", "known.xyz", "chosen.xyz"))
    write(crowd, [frames[0], *frames, Atoms("O")])
    write(known, frames[:10])
    arguments = (crowd, "--n=8", "--method=forces", f"--model={foundation}", f"--out={out}")
    result = result_of(*arguments, f"--labelled={known}")
    (finding,) = result["findings"]
    assert "11 structures are the same as another" in finding["problem"]
    (table,) = result["tables"].values()
    by_count = {row["structures"]: row for row in table}
    assert list(by_count) == [0, 2, 4, 8, 16]
    assert by_count[8]["chosen"] < by_count[8]["random, mean"] - by_count[8]["random, spread"]
    assert by_count[16]["chosen"] < by_count[8]["chosen"] < by_count[0]["chosen"] < 1
    chosen = [atoms.info["pool_index"] for atoms in read(out, ":")]
    assert len(set(chosen)) == 8
    assert min(chosen) > 10
    again = result_of(*arguments, f"--labelled={known}", "--overwrite")
    assert again["tables"] == result["tables"]
    few = result_of(*arguments, "--overwrite", "--candidates=20")
    assert "20 random structures of the 62 are candidates" in few["notes"][0]


def test_a_call_that_was_stopped_goes_on(pool, foundation, tmp_path, monkeypatch):
    """In blocks, each of which is computed once; the choice is that of one call."""
    computed = []
    original = Gradients.of.__func__

    def gradients(cls, model, **settings):
        if len(computed) == 2:
            computed.append(0)
            raise KeyboardInterrupt
        computed.append(len(model.sizes))
        return original(cls, model, **settings)

    whole, out = tmp_path / "whole.xyz", tmp_path / "out.xyz"
    arguments = (pool, "--n=6", f"--model={foundation}")
    result = result_of(*arguments, f"--out={whole}")
    monkeypatch.setattr(selection, "BLOCK", 25)
    monkeypatch.setattr(Gradients, "of", classmethod(gradients))
    assert run(*arguments, f"--out={out}").exit_code == 130
    assert not out.exists()
    again = result_of(*arguments, f"--out={out}")
    assert computed == [25, 25, 0, 10]
    assert again["tables"] == result["tables"]
    assert out.read_text() == whole.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.xyz", "whole.xyz"]


def test_gradients_are_kept_for_the_same_structures_alone():
    """Of the same cell and charge, with forces of the same ones; labels do not count."""
    atoms = Atoms("OH", [(0, 0, 0), (0, 0, 1)], cell=[5, 5, 5], pbc=True)
    others = [atoms.copy() for _ in range(3)]
    others[0].set_cell([5, 5, 6])
    others[1].pbc = False
    others[2].info["total_charge"] = 1
    digests = [selection.block_digest("model", [one], [0], 1) for one in (atoms, *others)]
    assert len(set(digests)) == 4
    labelled = atoms.copy()
    labelled.info["REF_energy"] = 1.0
    assert selection.block_digest("model", [labelled], [0], 1) == digests[0]
    assert selection.block_digest("model", [atoms], [], 1) != digests[0]


def test_the_file_has_the_structures_of_the_pool(pool, foundation, tmp_path):
    """With all that they had, in its order."""
    out = tmp_path / "chosen.xyz"
    result_of(pool, "--n=8", f"--model={foundation}", f"--out={out}")
    frames, written = read(pool, ":"), read(out, ":")
    indices = [atoms.info["pool_index"] for atoms in written]
    assert indices == sorted(set(indices))
    assert sorted(atoms.info["selection_order"] for atoms in written) == list(range(8))
    for atoms, index in zip(written, indices, strict=True):
        np.testing.assert_allclose(atoms.positions, frames[index].positions, atol=1e-7)
        assert atoms.info["remark"] == frames[index].info["remark"]
        assert atoms.info["REF_energy"] == pytest.approx(frames[index].info["REF_energy"])
        np.testing.assert_allclose(atoms.arrays["REF_forces"], frames[index].arrays["REF_forces"])


def test_labels_under_the_keys_of_ase_are_kept(foundation, tmp_path):
    frames = read(POOL, ":5")
    for atoms in frames:
        atoms.info["energy"] = atoms.info.pop("REF_energy")
        atoms.arrays["forces"] = atoms.arrays.pop("REF_forces")
    write(tmp_path / "pool.xyz", frames)
    result_of(tmp_path / "pool.xyz", "--n=2", "--method=random", f"--out={tmp_path / 'out.xyz'}")
    for atoms in read(tmp_path / "out.xyz", ":"):
        expected = frames[atoms.info["pool_index"]]
        assert atoms.get_potential_energy() == pytest.approx(expected.info["energy"])
        np.testing.assert_allclose(atoms.get_forces(), expected.arrays["forces"], atol=1e-7)


def test_the_choice_is_the_same_again(pool, foundation, tmp_path):
    for method, flags in METHODS.items():
        first, second = tmp_path / f"{method}-1.xyz", tmp_path / f"{method}-2.xyz"
        for out in (first, second):
            run(pool, "--n=6", *flags(foundation), f"--out={out}")
        assert first.read_text() == second.read_text()


def turned(atoms: Atoms) -> Atoms:
    """The same structure, rotated and with its atoms in another order."""
    copy = bare(atoms)
    copy.rotate(70, (1, 2, 3))
    return copy[::-1]


def test_molecules_that_occur_once_are_no_copies(pool, foundation, tmp_path):
    """The shifts of the atoms explain all of their energies; they are chosen first, for these."""
    others = [molecule(name) for name in ("CH4", "H2O")]
    write(tmp_path / "pool.xyz", [*read(pool, ":10"), *others])
    arguments = (tmp_path / "pool.xyz", f"--model={foundation}", f"--out={tmp_path / 'out.xyz'}")
    result = result_of(*arguments, "--n=3")
    assert not any("are the same as another" in one["problem"] for one in result["findings"])
    chosen = {atoms.info["pool_index"] for atoms in read(tmp_path / "out.xyz", ":")}
    assert chosen > {10, 11}


def test_cells_of_one_atom_are_refused(foundation, tmp_path):
    """They have no forces to settle."""
    write(tmp_path / "pool.xyz", [bulk("C", "sc", a=1.5 + 0.05 * n) for n in range(4)])
    refused = run(tmp_path / "pool.xyz", "--n=2", f"--model={foundation}", f"--out={tmp_path}/a")
    assert "no structure has forces, as in cells of one atom" in str(refused.exception)


def test_more_than_the_candidates_cannot_be_chosen(pool, foundation, tmp_path):
    arguments = (f"--model={foundation}", f"--out={tmp_path / 'out.xyz'}")
    refused = run(pool, "--n=8", "--candidates=5", *arguments)
    assert "of 5 candidates, 8 cannot be chosen: raise --candidates" in str(refused.exception)


def test_what_is_the_same_is_chosen_once(pool, foundation, tmp_path):
    """Ten structures, each of them three times: the same ones are found, and never chosen."""
    frames = read(pool, ":10")
    copies = [*frames, *map(turned, frames), *frames[::-1]]
    write(tmp_path / "pool.xyz", copies)
    arguments = (tmp_path / "pool.xyz", f"--model={foundation}", f"--out={tmp_path / 'out.xyz'}")
    result = result_of(*arguments, "--n=10")
    assert result["status"] == 0  # as the file is written
    assert any("20 structures are the same as another" in f["problem"] for f in result["findings"])
    chosen = [atoms.info["pool_index"] for atoms in read(tmp_path / "out.xyz", ":")]
    assert chosen == list(range(10))
    refused = run(*arguments, "--n=11", "--overwrite")
    assert isinstance(refused.exception, WeakLossError)
    assert "10 structures" in str(refused.exception)


def test_what_is_labelled_is_not_chosen_again(pool, foundation, tmp_path):
    """And those far from it are preferred."""
    write(tmp_path / "labelled.xyz", [turned(atoms) for atoms in read(pool, ":30")])
    arguments = (pool, "--n=30", f"--model={foundation}", f"--out={tmp_path / 'out.xyz'}")
    labelled = f"--labelled={tmp_path / 'labelled.xyz'}"
    result = result_of(*arguments, labelled)
    chosen = [atoms.info["pool_index"] for atoms in read(tmp_path / "out.xyz", ":")]
    assert chosen == list(range(30, 60))
    # all that are left are chosen: that is what random choice does too
    assert "no better than" in result["findings"][0]["problem"]
    assert any("30 structures are the same" in own["problem"] for own in result["findings"])


def test_isolated_atoms_are_left_out(pool, foundation, tmp_path):
    atoms = [Atoms(symbol, info={"config_type": "IsolatedAtom"}) for symbol in "HCO"]
    write(tmp_path / "pool.xyz", [*atoms, *read(pool, ":6")])
    for method, flags in METHODS.items():
        out = tmp_path / f"{method}.xyz"
        run(tmp_path / "pool.xyz", "--n=6", *flags(foundation), f"--out={out}")
        assert [a.info["pool_index"] for a in read(out, ":")] == list(range(3, 9))


def test_random_choice_needs_no_model(pool, tmp_path):
    out = tmp_path / "out.xyz"
    result = result_of(pool, "--n=5", "--method=random", f"--out={out}")
    assert (result["status"], result["tables"]) == (0, {})
    assert len(read(out, ":")) == 5


def test_bad_use_is_refused(pool, foundation, tmp_path):
    model, out = f"--model={foundation}", f"--out={tmp_path / 'out.xyz'}"
    write(tmp_path / "gold.xyz", [*read(pool, ":2"), Atoms("Au2", [[0, 0, 0], [0, 0, 2.5]])])
    (tmp_path / "here.xyz").write_text("mine")
    cases = {
        "60 structures .* not 61": (pool, "--n=61", model, out),
        "contains Au, and the model knows only": (tmp_path / "gold.xyz", "--n=2", model, out),
        "name another --out, or add --overwrite": (
            pool, "--n=2", model, f"--out={tmp_path / 'here.xyz'}"),
        "is an input and would be": (pool, "--n=2", model, f"--out={pool}", "--overwrite"),
        "--method forces needs a foundation model": (pool, "--n=2", out),
        "--candidates has no effect": (pool, "--n=2", "--method=random", "--candidates=5", out),
        "--model has no effect": (pool, "--n=2", "--method=random", model, out),
        "--labelled has no effect": (
            pool, "--n=2", "--method=random", f"--labelled={pool}", out),
        "there is no file": (tmp_path / "absent.xyz", "--n=2", model, out),
        "there is no model file": (pool, "--n=2", "--model=absent.model", out),
    }  # fmt: skip
    for message, arguments in cases.items():
        with pytest.raises(WeakLossError, match=message):
            raise run(*arguments).exception
    assert (tmp_path / "here.xyz").read_text() == "mine"
    assert not (tmp_path / "out.xyz").exists()
    assert run(pool, "--n=2", model, "--method=best", out).exit_code == 2
    assert run(pool, "--n=0", model, out).exit_code == 2


def test_overwriting_is_possible(pool, foundation, tmp_path):
    out = tmp_path / "out.xyz"
    out.write_text("old")
    result_of(pool, "--n=3", f"--model={foundation}", f"--out={out}", "--overwrite")
    assert len(read(out, ":")) == 3
