"""Fine-tune a small foundation model on 50 energies, with and without the weak losses.

Everything is trained by the real ``mace_run_train``. Prints a table of test errors and writes it
with a picture to ``--out``::

    python recipes/quickstart/run.py                 # plain against weak_taylor
    python recipes/quickstart/run.py --sweep         # the runs that chose the default weights
    python recipes/quickstart/run.py --foundation small --train my.xyz --test my_test.xyz
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from evaluate import Errors, draw_parity, errors_table, evaluate
from tables import with_table
from tqdm import tqdm

HERE = Path(__file__).parent
SCRIPTS = Path(sys.executable).parent
EPOCH = re.compile(r"Epoch (\d+): head")

COMPARISON = {
    "plain": "--loss=weighted",
    "weak_taylor": "--loss=weak_taylor",
}
SWEEP = {
    "plain": "--loss=weighted",
    **{
        f"weak_taylor, weight {weight}": f"--loss=weak_taylor --weak_taylor_weight={weight}"
        for weight in (1, 3, 10, 30)
    },
    **{
        f"weak_spatial, weight {weight}": f"--loss=weak_spatial --weak_spatial_weight={weight}"
        for weight in (1, 3, 10)
    },
    "weak_piwsl": "--loss=weak_piwsl",
    **{
        f"weak_taylor, no anchor, weight {weight}": (
            f"--loss=weak_taylor --weak_anchor=none --weak_taylor_weight={weight}"
        )
        for weight in (0.001, 0.01, 0.1)
    },
    "weak_spatial, no anchor": "--loss=weak_spatial --weak_anchor=none",
}


def mace_run_train(
    out: Path, name: str, config: Path, *flags: str, epochs: int, threads: int
) -> Path:
    """Train in a folder of ``out`` with progress shown; returns the model file.

    The folder is named after all that the training depends on here, so that a model is taken from
    an earlier call only if it was trained alike.

    Raises:
        SystemExit: if the training fails, with the end of its output.
    """
    settings = [f"--config={config}", f"--max_num_epochs={epochs}", *flags]
    content = " ".join([*settings, config.read_text()])
    folder = out / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    model = folder / "model.model"
    if model.exists():
        print(f"{model} is there already")
        return model
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        str(SCRIPTS / "mace_run_train"),
        "--name=model",
        f"--work_dir={folder}",
        *settings,
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    output: list[str] = []
    with tqdm(total=epochs, desc=folder.name, unit="epoch") as bar:
        for line in process.stdout or ():
            output.append(line)
            if found := EPOCH.search(line):
                bar.update(int(found[1]) + 1 - bar.n)
    if process.wait() != 0:
        raise SystemExit(f"{' '.join(command)}\nfailed:\n{''.join(output[-30:])}")
    return model


def fine_tune_all(
    runs: dict[str, str], foundation: str, options: argparse.Namespace
) -> dict[str, Path]:
    """Fine-tune once for each run, ``--processes`` at a time, one thread each."""

    def fine_tune(flags: str) -> Path:
        return mace_run_train(
            options.out,
            re.sub(r"[^a-z0-9.]+", "_", flags.replace("--", "")),
            HERE / "finetune.yaml",
            f"--foundation_model={foundation}",
            f"--train_file={options.train}",
            f"--device={options.device}",
            f"--lr={options.lr}",
            *flags.split(),
            epochs=options.epochs,
            threads=1,
        )

    with ThreadPoolExecutor(options.processes) as pool:
        models = list(pool.map(fine_tune, runs.values()))
    return dict(zip(runs, models, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder to write to")
    parser.add_argument("--foundation", help="model file or MACE's name of one; default: train it")
    parser.add_argument("--train", type=Path, default=HERE / "data" / "ethanol_pbe_train.xyz")
    parser.add_argument("--test", type=Path, default=HERE / "data" / "ethanol_pbe_test.xyz")
    parser.add_argument("--epochs", type=int, default=100, help="epochs of fine-tuning")
    parser.add_argument("--foundation-epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=0.01, help="MACE's default is 0.01")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=2, help="fine-tunings at a time")
    parser.add_argument("--sweep", action="store_true", help="the runs that chose the defaults")
    parser.add_argument("--readme", action="store_true", help="write the table into the README")
    options = parser.parse_args()
    options.out = options.out.resolve()
    foundation = options.foundation or str(
        mace_run_train(
            options.out,
            "foundation",
            HERE / "foundation.yaml",
            f"--train_file={HERE / 'data' / 'molecules_gfn1.xyz'}",
            f"--device={options.device}",
            epochs=options.foundation_epochs,
            threads=options.processes,
        )
    )
    runs = SWEEP if options.sweep else COMPARISON
    models = fine_tune_all(runs, foundation, options)
    errors: dict[str, Errors] = {}
    if Path(foundation).is_file():
        errors["foundation model"] = evaluate(Path(foundation), options.test, options.device)
    for name, model in tqdm(models.items(), desc="testing"):
        errors[name] = evaluate(model, options.test, options.device)
    table = errors_table(errors)
    print(f"\nErrors on {options.test.name}, unseen in training:\n\n{table}\n")
    (options.out / "table.md").write_text(table + "\n")
    picture = options.out / ("sweep.png" if options.sweep else "quickstart.png")
    draw_parity(errors, picture)
    print(f"Table: {options.out / 'table.md'}\nPicture: {picture}")
    if options.readme:
        for readme in (HERE / "README.md", HERE.parents[1] / "README.md"):
            marker = "sweep" if options.sweep else "comparison"
            readme.write_text(with_table(readme.read_text(), marker, table))


if __name__ == "__main__":
    main()
