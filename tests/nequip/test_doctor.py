"""``mace-weak doctor`` with NequIP: a configuration finds the losses."""

from __future__ import annotations

from console import result_of, rows_of

from mace_weak.losses import LOSSES


def test_a_sound_environment_has_no_findings():
    found = result_of("doctor", anew=True)
    assert found["findings"] == []
    (road,) = rows_of(found, "Training commands", "command").values()
    assert road["command"] == "nequip-train"
    assert road["weak losses"].split() == list(LOSSES)
