"""No command in the READMEs rots: each is run, shrunk, by a test that is named here."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from readme_commands import READMES, ROOT, calls, commands_of

BY_PROGRAM = {
    "mace_run_train": "mace/test_readme.py",
    "nequip-train": "nequip/test_readme.py",
    "mace-weak": "mace/test_command_calls.py",
    "sbatch": "mace/test_cluster.py and nequip/test_cluster.py",
    "make": "recipes/test_readme_commands.py",
    "pip": "recipes/test_readme_commands.py",
}
EXACTLY = {
    "python -m recipes.quickstart.run": "recipes/test_quickstart.py",
    "python -m recipes.quickstart.run --host=nequip": "recipes/test_quickstart.py",
    "python -m recipes.selection.run --seeds 1 2 3 4 5 6": "recipes/test_selection.py",
    "python -m recipes.selection.run --n 10 50 --readme": "recipes/test_selection.py",
    "python -m recipes.long_range.make_data": "recipes/test_dimers.py",
    "python -m recipes.long_range.run --readme": "recipes/test_dimers.py",
    "python -m recipes.benchmark.run learning_rates --data mine.xyz --energy-key energy "
    "--forces-key forces --foundation mace-model.model": "recipes/test_benchmark.py",
    "python -m recipes.benchmark.run learning_rates --host nequip": "recipes/test_benchmark.py",
    "python -m recipes.benchmark.run learning_rates --host nequip --only lr=0.003,0.001": (
        "recipes/test_benchmark.py"
    ),
    "python -m recipes.benchmark.run many_molecules --host nequip "
    "--only lr=0.001,0.0003 method=plain,weak_taylor": "recipes/test_benchmark.py",
    "python -m recipes.benchmark.run wall_clock --processes 1 "
    "--csv recipes/benchmark/published/wall_clock.csv": "recipes/test_benchmark.py",
    "git clone https://github.com/davkovacs/BOTNet-datasets": "recipes/test_molecule_data.py",
    "python -m recipes.benchmark.make_molecules BOTNet-datasets": "recipes/test_molecule_data.py",
    "python -m recipes.benchmark.error_bars --readme": "recipes/test_benchmark.py",
    "python -m recipes.benchmark.weak_terms --readme": "recipes/test_benchmark.py",
    "python -m recipes.benchmark.descriptor_learning": "recipes/test_descriptor_learning.py",
    "python -m recipes.benchmark.tangent_cost --foundation MODEL --readme": (
        "recipes/test_step_cost.py"
    ),
    "python -m recipes.benchmark.tangent_cost --case large": "recipes/test_step_cost.py",
    "python -m recipes.benchmark.tangent_cost --error-bars --readme": "recipes/test_step_cost.py",
    "python -m recipes.benchmark.step_cost --device=cuda --size=foundation --readme": (
        "recipes/test_step_cost.py"
    ),
    "python -m recipes.cbs_energy_only.make_data --out results/mine --molecule NH3": (
        "recipes/test_cbs_energy_only.py"
    ),
    "python -m recipes.cbs_energy_only.compare foundation=small plain=results/plain/plain.model "
    "weak_taylor=results/cbs/cbs.model finetune=results/finetuned.model --out results/cbs": (
        "mace/test_compare.py"
    ),
    "qsub -v CONFIG=recipes/cbs_energy_only/finetune.yaml recipes/cluster/one_gpu.pbs": (
        "mace/test_cluster.py"
    ),
}


def test_every_command_has_a_test():
    known = {shlex.join(shlex.split(command)) for command in EXACTLY}
    for readme in READMES:
        for words in commands_of(readme):
            assert words[0] in BY_PROGRAM or shlex.join(words) in known, (readme, words)
    for tests in {*BY_PROGRAM.values(), *EXACTLY.values()}:
        for file in tests.split(" and "):
            assert (ROOT / "tests" / file).exists(), file


LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
DATA = ROOT / "recipes" / "benchmark" / "data" / "README.md"


def headings(page: Path) -> set[str]:
    """The names by which links reach the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    "page", [*READMES, DATA, ROOT / "CONTRIBUTING.md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_lead_somewhere(page):
    for name, heading in LINK.findall(page.read_text()):
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), name
        assert not heading or heading in headings(target), f"{name}#{heading}"


@pytest.mark.parametrize("words", calls("make").values(), ids=" ".join)
def test_make_knows_the_target(words):
    done = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("words", calls("pip").values(), ids=" ".join)
def test_pip_knows_the_extras(words):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    action, package = words
    assert action == "install"
    assert package.removeprefix(".[").removesuffix("]") in setup["options.extras_require"]
