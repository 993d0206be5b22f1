"""What activation costs: the time of ``import torch`` with and without it, as a ratio.

    python -m recipes.benchmark.activation_cost --repeats 15

Runs alternate, so that a drift of the machine touches both alike. "Without" opts out of
mace-weak alone (``MACE_WEAK_ACTIVATE=0``): torch looks for its other extensions in both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

from tqdm import trange


def seconds(activated: bool) -> float:
    """Wall time of a new interpreter that imports torch."""
    environment = {**os.environ, "MACE_WEAK_ACTIVATE": "1" if activated else "0"}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], env=environment, check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    seconds(True)  # the first one fills the disk cache
    pairs = [(seconds(True), seconds(False)) for _ in trange(repeats, desc="import torch")]
    ratios = sorted(on / off for on, off in pairs)
    print(
        f"import torch, with activation / without: median {statistics.median(ratios):.4f}, "
        f"quartiles {ratios[len(ratios) // 4]:.4f} to {ratios[3 * len(ratios) // 4]:.4f}, "
        f"{repeats} pairs; without: {statistics.median(off for _, off in pairs):.2f} s"
    )


if __name__ == "__main__":
    main()
