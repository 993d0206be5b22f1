"""Accelerated models: trained where they equal the original, refused where they do not."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

import pytest
import torch
from ase.io import read
from mace.data import AtomicData, KeySpecification, config_from_atoms
from mace.tools.utils import AtomicNumberTable
from training import train

from mace_weak.errors import WeakLossError
from mace_weak.mace import checks as accelerated

BACKENDS = {"enable_cueq": "cuequivariance_torch", "enable_oeq": "openequivariance"}


@pytest.mark.parametrize("flag", BACKENDS)
def test_a_converted_model_is_trained_or_refused(tmp_path, finetune_flags, flag):
    """Where the library is installed, the model trains; elsewhere the run is refused."""
    flags = (*finetune_flags, "--loss=weak_taylor", f"--{flag}=True")
    if find_spec(BACKENDS[flag]) is None:
        with pytest.raises(SystemExit, match=f"--{flag} needs .*, which is not installed"):
            train(tmp_path, *flags)
    else:
        assert max(train(tmp_path, *flags).column("loss_taylor")) > 0


@pytest.fixture
def converted(monkeypatch, files, foundation):
    """A model, a data set, and a conversion that a test gives."""
    monkeypatch.setitem(accelerated.BACKENDS, "enable_cueq", ("cue", "conversion"))
    model = torch.load(foundation, weights_only=False).double()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    data = AtomicData.from_config(
        config_from_atoms(read(files.ethanol), key_specification=KeySpecification.from_defaults()),
        z_table=AtomicNumberTable(model.atomic_numbers.tolist()),
        cutoff=float(model.r_max),
    )
    args = argparse.Namespace(enable_cueq=True, enable_oeq=False, only_cueq=False)

    def check(conversion) -> None:
        module = argparse.Namespace(run=conversion)
        monkeypatch.setattr(accelerated, "import_module", lambda name: module)
        accelerated.check_accelerated(args, model, [data], torch.device("cpu"))

    yield check
    torch.set_default_dtype(before)


def test_an_equal_conversion_passes(converted):
    converted(lambda model, device: model)


def test_the_model_that_is_converted_back_is_compared_on_the_device_of_the_training(
    converted, monkeypatch
):
    """The converters leave part of it on the CPU, wherever the training is."""
    places: list[torch.device] = []

    def conversion(model, device):
        move = model.to
        monkeypatch.setattr(model, "to", lambda place: places.append(place) or move(place))
        return model

    converted(conversion)
    assert places == [torch.device("cpu")]


def test_a_conversion_with_other_energies_is_refused(converted):
    def wrong(model, device):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.001)
        return model

    with pytest.raises(WeakLossError, match=r"the converted model's energy differs .* remove --en"):
        converted(wrong)


def test_a_conversion_that_fails_is_refused(converted):
    def broken(model, device):
        raise RuntimeError("no kernel")

    with pytest.raises(WeakLossError, match=r"cue cannot train this model \(no kernel\)"):
        converted(broken)
