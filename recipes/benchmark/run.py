"""Run sets of the benchmark's cases, and write one tidy table of results.

    python -m recipes.benchmark.run small
    python -m recipes.benchmark.run learning_rates --processes 8

Each case is a real ``mace_run_train`` (or ``nequip-train``) in a process of its own. What was
trained before is kept, so that a run can be stopped and called again; ``--keep`` does the same with
a table alone, without the models. The table has a row for each case: its settings, errors, seconds,
versions and the command line. Rows with the method ``foundation`` are those of the model that
fine-tuning starts from.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from ase.io import read

from recipes.benchmark.benchmark_cases import HERE, Case, Data, Plan, Source
from recipes.benchmark.benchmark_runner import Benchmark
from recipes.benchmark.plan_arguments import add_plan_arguments


def own_data(options: argparse.Namespace) -> Data:
    """Files of the user's: without ``--test``, the second half of ``--data`` is unseen."""
    keys = {
        "energy_key": options.energy_key,
        "forces_key": options.forces_key,
        "stress_key": options.stress_key,
    }
    train = str(options.data.resolve())
    if options.test:
        test = str(options.test.resolve())
        return Data(Source(train, **keys), Source(test, **keys))
    half = len(read(options.data, ":")) // 2
    return Data(Source(train, index=f":{half}", **keys), Source(train, index=f"{half}:", **keys))


def chosen(text: str) -> tuple[str, list[str]]:
    """A setting of the cases and the values that are wanted, from ``SETTING=VALUE,VALUE``."""
    setting, _, values = text.partition("=")
    known = [field.name for field in fields(Case)]
    if setting not in known or not values:
        raise argparse.ArgumentTypeError(f"'{text}' is not one of {'=…, '.join(known)}=…")
    return setting, values.split(",")


def arguments() -> argparse.Namespace:
    default = Plan.read(HERE / "cases.yaml")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("set", help=f"set of cases: {', '.join(default.sets)}")
    parser.add_argument("--host", choices=("mace", "nequip"), default="mace")
    parser.add_argument("--data", type=Path, help="extxyz file in place of the data of the set")
    parser.add_argument("--test", type=Path, help="unseen structures, for --data")
    parser.add_argument("--energy-key", default="REF_energy", help="in --data and --test")
    parser.add_argument("--forces-key", default="REF_forces", help="in --data and --test")
    parser.add_argument("--stress-key", default="REF_stress", help="in --data and --test")
    parser.add_argument("--csv", type=Path, help="table to write; default: OUT/SET.csv")
    parser.add_argument(
        "--only", nargs="+", default=[], type=chosen, metavar="SETTING=VALUE,VALUE",
        help="train only these cases of the set: seed=1 lr=0.01,0.003",
    )  # fmt: skip
    parser.add_argument(
        "--keep", action="store_true",
        help="take the rows of --csv of the same command, test file and versions as they are",
    )  # fmt: skip
    add_plan_arguments(parser)
    return parser.parse_args()


def require_values(only: Mapping[str, Collection[str]], cases: Sequence[Case]) -> None:
    """Check that there are cases with each of the values that are wanted.

    Raises:
        SystemExit: if not.
    """
    for setting, values in only.items():
        known = {str(getattr(case, setting)) for case in cases}
        if missing := sorted(set(values) - known):
            raise SystemExit(
                f"no case of the set has {setting}={','.join(missing)}: take of "
                f"{', '.join(sorted(known))}"
            )


def main() -> None:
    options = arguments()
    plan = Plan.read(options.cases)
    if options.data:
        plan = plan.with_data(own_data(options))
    options.csv = options.csv or options.out / f"{options.set}.csv"
    options.csv.parent.mkdir(parents=True, exist_ok=True)
    benchmark = Benchmark(plan, options)
    cases = list(plan.cases(options.set))
    require_values(dict(options.only), cases)
    left_out = {case: why for case in cases if (why := benchmark.refused(case))}
    for reason in sorted({f"{case.data}, {case.method}: {why}" for case, why in left_out.items()}):
        print(f"Left out: {reason}")
    benchmark.run([case for case in cases if case not in left_out], dict(options.only))
    print(f"Results: {options.csv}")


if __name__ == "__main__":
    main()
