"""The tables of the benchmark say what its rows say."""

from __future__ import annotations

import pytest
from datafiles import HOSTS

from mace_weak.losses import LOSSES
from recipes.quickstart.tables import with_table

if HOSTS["mace"] is None:
    pytest.skip("the report is written in MACE's environment", allow_module_level=True)

import pandas as pd

from recipes.benchmark import closed_form, report
from recipes.quickstart import processes

ERRORS = {  # of two seeds, at two learning rates
    ("plain", 0.01): (400.0, 420.0),
    ("plain", 0.001): (200.0, 220.0),
    ("weak_taylor", 0.01): (100.0, 110.0),
    ("weak_taylor", 0.001): (180.0, 180.0),
}


def rows(**settings: object) -> pd.DataFrame:
    start = {"data": "ethanol", "method": "foundation", "structures": 0, "force_rmse": 500.0,
             "energy_rmse": 9.0, "slope": 0.9, "torch": "2.13.0"}  # fmt: skip
    trained = [
        {"data": "ethanol", "method": method, "structures": 50, "lr": lr, "steps": 800,
         "seed": seed, "force_rmse": error, "energy_rmse": error / 50, "slope": 1 - error / 1000,
         "seconds": 60.0, "torch": "2.13.0", **settings}
        for (method, lr), errors in ERRORS.items()
        for seed, error in enumerate(errors)
    ]  # fmt: skip
    return pd.DataFrame([start, *trained])


def cells(table: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]


def test_each_method_is_compared_at_its_own_best():
    foundation, plain, weak = cells(report.table(rows(), "lr"))
    assert foundation[:2] == ["ethanol", "foundation model"]
    assert foundation[-1] == "500"
    assert plain == ["ethanol", "plain", "410 ± 14", "210 ± 14", "**210 ± 14**", "1"]
    assert weak == ["ethanol", "weak_taylor", "105 ± 7", "180 ± 0", "**105 ± 7**", "0.50 ± 0.00"]


def test_without_a_plain_run_there_is_no_ratio():
    alone = rows()
    table = report.table(alone[alone["method"] != "plain"], "lr")
    assert table.splitlines()[-1].endswith("| **105 ± 7** |  |")


def test_what_a_set_varies_stands_in_the_columns():
    both = pd.concat([rows(structures=20), rows(structures=50)])
    table = report.table(both.drop_duplicates(), "structures")
    assert "| 20 structures | 50 structures |" in table
    assert cells(table)[1][2:4] == ["210 ± 14", "210 ± 14"]


def test_a_view_shows_each_method_at_its_best_on_each_data():
    """The force error, and in brackets the energy error of the same rows and how few seeds."""
    other = rows()
    other["data"] = "ammonia"
    other = other[other["method"] != "weak_taylor"]
    table = report.matrix_table(pd.concat([rows(), other]))
    assert table.splitlines()[0] == "| method | ethanol | ammonia |"
    foundation, plain, weak = cells(table)
    assert foundation == ["foundation model", "500 (9.0)", "500 (9.0)"]
    assert plain == ["plain", "210 ± 14 (4.2; 2 seeds)", "210 ± 14 (4.2; 2 seeds)"]
    assert weak[:2] == ["weak_taylor", "105 ± 7 (2.1; 2 seeds)"]


def test_a_view_takes_its_rows_from_several_sets():
    """In the order that it declares, each training once."""
    view = report.VIEWS["alternatives"]
    found = view.rows()
    assert list(dict.fromkeys(found["data"])) == list(view.data)
    own = found[(found["data"] == "h2co") & (found["method"] != "foundation")]
    assert list(dict.fromkeys(own["method"])) == [
        method for method in view.methods if method in set(own["method"])
    ]
    assert {"plain", "weak_taylor", "finetune", "frozen layers"} <= set(own["method"])
    assert not own.duplicated(["method", "structures", "lr", "steps", "seed"]).any()
    assert set(own["structures"]) == {50}


def test_dynamics_tell_how_many_seeds_broke():
    held = {"drift_300": -0.2, "time_300": 5.0, "failed_300": False}
    measured = rows(**held)
    plain = cells(report.dynamics_table(measured))[0]
    assert plain == ["ethanol", "plain", "0.01", "0.2", "held 5"]
    second = measured["seed"] == 1
    measured.loc[second, ["drift_300", "time_300", "failed_300"]] = [0.4, 1.25, True]
    weak = cells(report.dynamics_table(measured))[-1]
    assert weak == ["ethanol", "weak_taylor", "0.001", "0.2", "1 of 2 broke, first at 1.2"]
    measured["failed_300"] = True
    assert cells(report.dynamics_table(measured))[-1][3:] == ["", "2 of 2 broke, first at 1.2"]
    one = measured[measured["seed"] != 0]
    assert cells(report.dynamics_table(one))[-1][3:] == ["", "broke at 1.2"]
    measured["failed_300"], measured["drift_300"] = False, 3e-4
    assert cells(report.dynamics_table(measured))[-1][3:] == ["< 0.01", "held 1.2"]


def test_frequencies_are_those_of_the_best_rate():
    measured = rows(wavenumber_mae=20.0, wavenumber_max=50.0)
    measured.loc[0, ["wavenumber_mae", "wavenumber_max"]] = 80.0, 200.0
    best = (measured["method"] == "plain") & (measured["lr"] == 0.001)
    measured.loc[best, "wavenumber_mae"] = [30.0, 40.0]
    foundation, plain, weak = cells(report.frequencies_table(measured))
    assert foundation == ["foundation model", "80 (200)"]
    assert plain == ["plain", "35 ± 7 (50)"]
    assert weak == ["weak_taylor", "20 ± 0 (50)"]


def test_a_figure_is_drawn(tmp_path):
    path = tmp_path / "figures" / "rates.png"
    report.draw(rows(), "lr", path)
    assert path.stat().st_size > 10_000


def test_the_readmes_show_what_is_published():
    readmes = [readme.read_text() for readme in report.READMES]
    shown = set()
    for marker, text in report.texts():
        for readme in readmes:
            assert with_table(readme, marker, text) == readme, marker
            if f"<!-- {marker} -->" in readme:
                shown.add(marker)
    assert {f"{name} at best" for name in report.VIEWS} <= shown
    for path in report.FIGURES.iterdir():
        assert any(f"figures/{path.name}" in readme for readme in readmes), path.name


@pytest.mark.parametrize("host", closed_form.SHOWN)
def test_the_readmes_show_the_closed_form(host):
    for marker, text in closed_form.tables(host, closed_form.published(host)).items():
        readmes = [readme.read_text() for readme in closed_form.SHOWN[host]]
        assert any(f"<!-- {marker} -->" in readme for readme in readmes)
        assert all(with_table(readme, marker, text) == readme for readme in readmes), marker


def test_the_closed_form_by_the_number_of_energies():
    """Its error and the ratio to plain training; data with one number only are left out."""
    few, usual = rows(structures=20), rows()
    other = usual[usual["method"] != "foundation"].assign(data="ammonia")
    start = usual[usual["method"] == "foundation"].assign(data="ammonia")
    both = pd.concat([few, usual, start, other]).replace({"method": {"weak_taylor": "finetune"}})
    both["closed_form"], both["expected_force_rmse"] = True, 100.0
    header, _, *lines = closed_form.numbers_table(both).splitlines()
    assert header == "| data | 20 energies | 50 energies |"
    assert lines == ["| ethanol | 105 ± 7 (0.50 ± 0.00) | 105 ± 7 (0.50 ± 0.00) |"]


def test_published_rows_are_of_the_present_defaults():
    """Another default, or another rule for the order, asks for other trainings."""
    published = pd.concat([pd.read_csv(path) for path in report.PUBLISHED.glob("*.csv")])
    present = {processes.defaults_of(loss) for loss in (*LOSSES, processes.CLOSED_FORM)}
    present.add(processes.defaults_of(processes.CLOSED_FORM, on_labels=True))
    assert set(published["defaults"].dropna()) == present


def test_the_rule_for_the_order_is_one_of_the_defaults(monkeypatch):
    before = processes.defaults_of("weak_taylor")
    monkeypatch.setattr(processes, "ENOUGH", 2 * processes.ENOUGH)
    assert processes.defaults_of("weak_taylor") != before
    assert processes.defaults_of("weighted") == ""
