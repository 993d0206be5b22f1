"""Fine-tune a small foundation model on coupled-cluster energies: plainly, weakly, in closed form.

Prints a table of test errors and writes it with a picture to ``--out``::

    python -m recipes.quickstart.run                 # plain, weak_taylor and finetune, by MACE
    python -m recipes.quickstart.run --host=nequip   # the same by NequIP
    python -m recipes.quickstart.run --sweep         # by several losses and weights
    python -m recipes.quickstart.run --foundation small --train my.xyz --test my_test.xyz
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path

from tqdm import tqdm

from recipes.quickstart.arguments import DATA, add_training_arguments
from recipes.quickstart.cases import COMPARISON, SWEEP
from recipes.quickstart.closed_form_call import command_of, finetuned
from recipes.quickstart.evaluate import (
    Errors,
    draw_parity,
    errors_of,
    errors_table,
    predicted,
)
from recipes.quickstart.tables import with_table

HERE = Path(__file__).parent
CBS = HERE.parent / "cbs_energy_only" / "data"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--host", choices=("mace", "nequip"), default="mace")
    parser.add_argument("--out", type=Path, help="folder to write to; default: results/HOST")
    add_training_arguments(parser)
    parser.add_argument("--foundation-data", type=Path, default=DATA / "molecules_gfn1.xyz")
    parser.add_argument("--foundation-epochs", type=int, help="default: 20, by NequIP 60")
    parser.add_argument("--train", type=Path, default=CBS / "train.xyz")
    parser.add_argument("--test", type=Path, default=CBS / "test.xyz")
    parser.add_argument("--epochs", type=int, default=100, help="epochs of fine-tuning")
    parser.add_argument("--lr", type=float, default=0.01, help="MACE's default is 0.01")
    parser.add_argument("--sweep", action="store_true", help="the runs that chose the defaults")
    parser.add_argument("--readme", action="store_true", help="write the table into the README")
    options = parser.parse_args()
    options.out = (options.out or HERE / "results" / options.host).resolve()
    options.train, options.test = options.train.resolve(), options.test.resolve()
    host = import_module(f"recipes.quickstart.{options.host}_host")
    foundation = options.foundation or host.train_foundation(
        options.out,
        options.foundation_data,
        epochs=options.foundation_epochs or host.FOUNDATION_EPOCHS,
        device=options.device,
        threads=options.processes,
    )
    cases = SWEEP if options.sweep else COMPARISON
    with ThreadPoolExecutor(options.processes) as pool:  # one thread each
        fine_tune = partial(host.fine_tune, foundation=foundation, options=options)
        models = dict(zip(cases, pool.map(fine_tune, cases.values()), strict=True))
    if not options.sweep:
        command = command_of(
            foundation, options.train, device=options.device, steps=options.finetune_steps
        )
        models["finetune"] = finetuned(options.out, command, suffix=host.MODEL_SUFFIX, quiet=False)
    if Path(foundation).is_file():
        models = {"foundation model": foundation, **models}
    errors: dict[str, Errors] = {
        name: errors_of(predicted(str(model), options.test, device=options.device))
        for name, model in tqdm(models.items(), desc="testing")
    }
    report(errors, options)


def report(errors: dict[str, Errors], options: argparse.Namespace) -> None:
    table = errors_table(errors)
    print(f"\nErrors on {options.test.name}, unseen in training:\n\n{table}\n")
    (options.out / "table.md").write_text(table + "\n")
    picture = options.out / ("sweep.png" if options.sweep else "quickstart.png")
    draw_parity(errors, picture)
    print(f"Table: {options.out / 'table.md'}\nPicture: {picture}")
    if options.readme:
        marker = f"{options.host} {'sweep' if options.sweep else 'comparison'}"
        readme = HERE / "README.md"
        readme.write_text(with_table(readme.read_text(), marker, table))


if __name__ == "__main__":
    main()
