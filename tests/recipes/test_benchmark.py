"""The benchmark runs, on its own list of cases and on files of the user's."""

from __future__ import annotations

import csv
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from datafiles import HOSTS, QUICKSTART, RECIPES, run_recipe, small_plan
from datafiles import write_files as write_quickstart_files
from readme_commands import calls

from recipes.benchmark.benchmark_cases import SCRATCH, Case, Foundation, Plan, Source
from recipes.benchmark.benchmark_data import (
    LABELS,
    PARTS,
    frames_of,
    with_file,
    write_files,
)
from recipes.benchmark.run import arguments, require_values

BENCHMARK = RECIPES / "benchmark"
HOST = next(host for host, version in HOSTS.items() if version)
PLAN = Plan.read(BENCHMARK / "cases.yaml")


def test_a_set_is_all_combinations():
    cases = list(PLAN.cases("learning_rates"))
    lists = PLAN.sets["learning_rates"]
    assert len(cases) == len(set(cases)) == math.prod(len(values) for values in lists.values())
    assert {case.method for case in cases} == set(lists["method"])
    first = {name: values[0] for name, values in lists.items()}
    assert cases[0] == Case(**first)


def test_the_closed_form_has_one_case_for_all_learning_rates_and_steps():
    of_method: dict[str, list[Case]] = {}
    for case in PLAN.cases("wall_clock"):
        of_method.setdefault(case.method, []).append(case)
    lists = PLAN.sets["wall_clock"]
    assert {case.steps for case in of_method["plain"]} == set(lists["steps"])
    assert [case.data for case in of_method["finetune"]] == lists["data"]
    assert {(case.lr, case.steps) for case in of_method["finetune"]} == {(0, 0)}


def test_every_case_is_declared():
    for name in PLAN.sets:
        for case in PLAN.cases(name):
            method, data = PLAN.methods[case.method], PLAN.data[case.data]
            assert method.labels in LABELS
            assert {data.train.part, data.test.part} <= set(PARTS)
            assert (method.foundation or data.foundation) in {*PLAN.foundations, SCRATCH}
            assert not method.anchored or method.foundation == SCRATCH


@pytest.mark.skipif(HOSTS["mace"] is None, reason="the rows are those of MACE")
def test_the_closed_form_is_compared_with_each_method_at_its_best():
    output = run_recipe(BENCHMARK / "closed_form.py")
    by_mace, _, by_nequip = output.partition("nequip closed form:")
    assert "finetune / plain" in by_nequip
    rows = [line.strip("| ").split(" | ") for line in by_mace.splitlines() if line.startswith("| ")]
    header, *lines = [row for row in rows if row[0] != "---"]
    by_data = {(row[0], row[1]): dict(zip(header, row, strict=False)) for row in lines}
    ethanol = by_data["rmd17_ethanol", "50"]
    published = (BENCHMARK / "published" / "learning_rates.csv").read_text()
    plain: dict[str, list[float]] = {}
    for row in csv.DictReader(published.splitlines()):
        if (row["data"], row["method"]) == ("rmd17_ethanol", "plain"):
            plain.setdefault(row["lr"], []).append(float(row["force_rmse"]))
    best = min(np.mean(errors) for errors in plain.values())
    assert float(ethanol["plain"].split()[0]) == pytest.approx(best, abs=1)
    assert 0 < float(ethanol["finetune / plain"].split()[0]) < 1.1


def test_methods_see_the_labels_that_they_may(tmp_path):
    frames = ethanols(tmp_path, 10)
    case = Case("ethanol", "plain", 10, 0.01, 8, 1)
    for labels in LABELS:
        files = write_files(tmp_path, frames, case, labels)
        train, valid = read(files.train, ":"), read(files.valid, ":")
        assert len(train) == files.n_train
        assert len(valid) == 1
        assert all(np.isfinite(atoms.info["REF_energy"]) for atoms in train + valid)
        with_forces = [atoms for atoms in train if "REF_forces" in atoms.arrays]
        assert len(with_forces) == {"energies": 0, "energies, forces": 9}.get(labels, 1)
        if labels == "energies, forces of one":
            (highest,) = with_forces
            assert highest.info["REF_energy"] == max(atoms.info["REF_energy"] for atoms in train)
            assert "REF_forces" not in valid[0].arrays


def test_the_parts_of_a_file_are_cold_and_hot(tmp_path):
    frames = ethanols(tmp_path, 30)
    cold, hot = PARTS["coldest"](frames), PARTS["hottest"](frames)
    assert (len(cold), len(hot)) == (15, 3)
    assert max(a.info["REF_energy"] for a in cold) < min(a.info["REF_energy"] for a in hot)


def ethanols(folder: Path, count: int) -> list[Atoms]:
    source = Source(str(QUICKSTART / "data" / "ethanol_pbe_test.xyz"), index=f":{count}")
    return frames_of(source, folder, forces_needed=True)


def test_absent_labels_are_named(tmp_path):
    source = Source(str(QUICKSTART / "data" / "ethanol_pbe_train.xyz"), index=":3")
    assert all(
        "REF_forces" not in a.arrays for a in frames_of(source, tmp_path, forces_needed=False)
    )
    with pytest.raises(SystemExit, match="no forces 'REF_forces'"):
        frames_of(source, tmp_path, forces_needed=True)
    with pytest.raises(SystemExit, match="no energy 'own'"):
        frames_of(replace(source, energy_key="own"), tmp_path, forces_needed=False)


def test_a_foundation_is_trained_on_its_part_of_a_file(tmp_path):
    """And on the labels that are named; a file that is used as it is stays where it is."""
    frames = ethanols(tmp_path, 6)
    for atoms in frames:
        atoms.arrays["lo_forces"] = 2.0 * atoms.arrays["REF_forces"]
    path = tmp_path / "two_levels.xyz"
    write(path, frames)
    declared = Foundation(train=Source(str(path), index="1:4", forces_key="lo_forces"))
    own = with_file(declared, "two_levels", shared=tmp_path, folder=tmp_path / "data")
    trained = read(own.train.file, ":")
    assert len(trained) == 3
    assert np.allclose(trained[0].arrays["REF_forces"], frames[1].arrays["lo_forces"])
    assert with_file(own, "two_levels", shared=tmp_path, folder=tmp_path / "data") == own


def run_benchmark(*arguments: str) -> str:
    return run_recipe(BENCHMARK / "run.py", *arguments)


def test_files_of_the_users_are_compared(tmp_path):
    """With keys of their own; a second call trains nothing again."""
    files = write_quickstart_files(tmp_path)
    frames = read(files.ethanol_forces, ":")
    for atoms in frames:
        atoms.info["my_energy"] = atoms.info.pop("REF_energy")
        atoms.arrays["my_forces"] = atoms.arrays.pop("REF_forces")
    write(tmp_path / "own.xyz", frames)
    (tmp_path / "cases.yaml").write_text(
        "data: {}\n"
        "foundations:\n"
        f"  molecules: {{config: {QUICKSTART / 'foundation.yaml'}, "
        f"train: {{file: {files.molecules}}}, epochs: 1}}\n"
        "methods:\n"
        "  plain: {flags: {loss: weighted}}\n"
        "  weak: {flags: {loss: weak_taylor, weak_taylor_weight: 1000}}\n"
        "  student: {labels: 'energies, forces', foundation: none, anchored: true, "
        "flags: {loss: weak_taylor, amsgrad: null}}\n"
        "sets: {tiny: {data: [], method: [plain, weak, student], structures: [6], "
        "lr: [0.01], steps: [8], seed: [1], dynamics: {temperatures: [300], steps: 20}}}\n"
    )
    arguments = (
        "tiny", f"--host={HOST}", f"--cases={tmp_path / 'cases.yaml'}", f"--out={tmp_path / 'out'}",
        f"--data={tmp_path / 'own.xyz'}", "--energy-key=my_energy", "--forces-key=my_forces",
    )  # fmt: skip
    output = run_benchmark(*arguments)
    table = tmp_path / "out" / "tiny.csv"
    foundation, *rows = csv.DictReader(table.read_text().splitlines())
    assert foundation["method"] == "foundation"
    assert float(foundation["force_rmse"]) > 0
    for_mace = ["student"] * (HOST == "mace")
    assert [row["method"] for row in rows] == ["plain", "weak", *for_mace]
    assert ("Left out: own, student" in output) == (HOST == "nequip")
    assert all(float(row["force_rmse"]) > 0 and float(row["seconds"]) > 0 for row in rows)
    assert len({row["force_rmse"] for row in rows}) == len(rows)
    program = {"mace": "mace_run_train", "nequip": "nequip-train"}[HOST]
    assert all(row["command"].startswith(program) for row in rows)
    assert all(str(tmp_path) not in row["command"] for row in rows)
    if HOST == "mace":
        assert "--weak_anchor=results/foundation-molecules" in rows[-1]["command"]
        assert all(0 < float(row["time_300"]) <= 0.0101 for row in rows)  # ps
    before = {path: path.stat().st_mtime for path in (tmp_path / "out").rglob("seconds")}
    run_benchmark(*arguments)
    assert {path: path.stat().st_mtime for path in before} == before
    assert list(csv.DictReader(table.read_text().splitlines())) == [foundation, *rows]
    for path in (tmp_path / "out").glob("case-*"):
        shutil.rmtree(path)
    run_benchmark(*arguments, "--keep")  # the table alone
    assert not list((tmp_path / "out").glob("case-*"))
    assert list(csv.DictReader(table.read_text().splitlines())) == [foundation, *rows]
    for atoms in frames:  # other labels in the same file
        atoms.arrays["my_forces"] *= 1.1
    write(tmp_path / "own.xyz", frames)
    run_benchmark(*arguments, "--keep", "--only", "method=plain")
    _, plain, *others = csv.DictReader(table.read_text().splitlines())
    assert plain["method"] == rows[0]["method"]
    assert plain["force_rmse"] != rows[0]["force_rmse"]
    assert others == rows[1:]


@pytest.mark.parametrize(
    "words",
    [words for words in calls("python").values() if "recipes.benchmark.run" in words],
    ids=" ".join,
)
def test_the_calls_of_the_readmes_name_cases(words, monkeypatch):
    monkeypatch.setattr(sys, "argv", words[1:])
    options = arguments()
    require_values(dict(options.only), list(PLAN.cases(options.set)))


def test_a_value_of_no_case_is_refused():
    with pytest.raises(SystemExit, match=r"no case of the set has lr=1e-3: take of 0.0003, 0.001"):
        require_values({"lr": ["1e-3", "0.001"]}, list(PLAN.cases("learning_rates")))


@pytest.mark.skipif(HOSTS["mace"] is None, reason="the terms are measured with MACE")
def test_the_tangent_model_is_measured_with_and_without_the_weak_terms(tmp_path):
    output = run_recipe(
        BENCHMARK / "weak_terms.py", f"--cases={small_plan(tmp_path)}", "--data", "small", "absent",
        "--structures=12", "--seeds", "1", "2", f"--out={tmp_path}",
    )  # fmt: skip
    (line,) = (line.strip("| ").split(" | ") for line in output.splitlines() if "| small" in line)
    errors = [float(cell.split()[0]) for cell in line[1:6]]
    assert all(error > 0 for error in errors)
    assert len(set(errors)) > 1
    assert float(line[6].split()[0]) >= 1.0
    assert "Left out: absent" in output


@pytest.mark.skipif(HOSTS["mace"] is None, reason="the error bars are measured with MACE")
def test_error_bars_are_measured(tmp_path):
    output = run_recipe(
        BENCHMARK / "error_bars.py", f"--cases={small_plan(tmp_path)}", "--data", "small",
        "--structures=12", "--seeds", "1", "2", f"--out={tmp_path}",
    )  # fmt: skip
    (line,) = (line.strip("| ").split(" | ") for line in output.splitlines() if "| small" in line)
    error, expected, ratio = (float(cell.split()[0]) for cell in line[2:5])
    assert 0.5 < ratio * expected / error < 2  # means of two seeds
    assert 0 < int(line[5].removesuffix(" %")) <= 100
    assert line[4] != line[6]
