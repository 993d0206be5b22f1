"""A released MACE model as foundation and anchor, on its own periodic data.

Wants the team's shared data beside the checkout; nothing of it is part of the project.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from ase.io import iread, write
from training import FINETUNE, train

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.skipif(not SHARED.is_dir(), reason="there is no ../shared/data")
def test_a_released_periodic_model_is_fine_tuned(tmp_path):
    frames = sorted(iread(SHARED / "gst_validate.xyz", index=":40"), key=len)[:6]
    for frame in frames:
        energy, forces = frame.get_potential_energy(), frame.get_forces()
        frame.calc = None
        frame.info, frame.arrays["REF_forces"] = {"REF_energy": energy}, forces
    write(tmp_path / "gst.xyz", frames)
    run = train(
        tmp_path / "run",
        f"--train_file={tmp_path / 'gst.xyz'}",
        f"--foundation_model={SHARED / 'gst_mace.model'}",
        *FINETUNE,
        "--loss=weak_piwsl",
        "--batch_size=1",
        "--max_num_epochs=1",
        "--E0s=foundation",
        "--lr=1e-4",
    )
    assert max(run.column("loss_taylor")) > 0
    assert max(run.column("loss_spatial")) > 0
    force_error = 0.2  # eV/Å, of a released model on its own kind of data
    assert max(run.column("loss_supervised")) < 100 * force_error**2
