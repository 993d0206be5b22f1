"""``mace-weak doctor``: whether the losses can be used in this environment, and if not, why."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from packaging.requirements import Requirement

from mace_weak.command.output import Finding, Result, Table
from mace_weak.errors import WeakLossError
from mace_weak.losses import LOSSES
from mace_weak.mace.activation import OPT_OUT
from mace_weak.versions import (
    DISTRIBUTION,
    GRAPH_LONGRANGE,
    LES,
    MACE,
    NEQUIP,
    installed,
    refuse_together,
    require_supported,
    supported,
)

HOSTS = (MACE, NEQUIP)
LIBRARIES = (
    "torch", "e3nn", "ase", "cuequivariance-torch", "openequivariance", "nequip-allegro",
    GRAPH_LONGRANGE, LES,
)  # fmt: skip
AUTOLOAD = "TORCH_DEVICE_BACKEND_AUTOLOAD"  # torch loads its entry points unless this is 0
CONSOLE = "mace_run_train"
LAUNCHER = "mace_weak.mace"

# a configuration of nequip-train finds a loss so, and its fields if the extension is loaded
NEQUIP_PROOF = """
import nequip.train
from hydra.utils import get_class
from nequip.data import get_field_type
from mace_weak.nequip import STRUCTURE
from mace_weak.nequip.train import LOSS_CLASSES
get_field_type(STRUCTURE)
print(*(name for kind, name in LOSS_CLASSES.items() if get_class("mace_weak.nequip.train." + kind)))
"""


def diagnosis() -> Result:
    """Versions, the weak losses of each training command, and findings."""
    result = Result()
    hosts = [host for host in HOSTS if installed(host)]
    rows = [[host, installed(host), str(supported(host).specifier)] for host in HOSTS]
    result.tables.append(Table("Hosts", ("host", "installed", "supported"), rows))
    libraries = [[name, installed(name)] for name in LIBRARIES]
    result.tables.append(
        Table("Libraries", ("library", "installed"), [*libraries, ["CUDA", cuda()]])
    )
    result.findings += bad_versions(hosts)
    commands = [command for host in hosts for command in training_commands(host)]
    columns = ("command", "extended by", "weak losses")
    result.tables.append(Table("Training commands", columns, commands))
    for command, _, losses in commands:
        result.findings += unreachable(command, losses.split())
    return result


def cuda() -> str:
    """The CUDA of torch, and its first device."""
    import torch

    if not torch.version.cuda:
        return "torch is built without it"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no device"
    return f"{torch.version.cuda}, {device}"


def bad_versions(hosts: Sequence[str]) -> Iterator[Finding]:
    """No host, one outside the supported range, two together, and what one of them or mace-weak
    itself refuses."""
    if not hosts:
        yield Finding(
            f"neither MACE nor NequIP is installed in {sys.prefix}",
            "pip install 'mace-weak[mace]' or 'mace-weak[nequip]' there",
        )
    beside = [GRAPH_LONGRANGE] if installed(GRAPH_LONGRANGE) else []
    checks = [
        *(partial(require_supported, name) for name in (*hosts, *beside)),
        partial(refuse_together, *HOSTS),
    ]
    for check in checks:
        try:
            check()
        except WeakLossError as error:
            problem, _, mend = str(error).rpartition(": ")
            yield Finding(problem, mend)
    for name in (DISTRIBUTION, *hosts):
        for line in requires(name) or ():
            needed = Requirement(line)
            found = installed(needed.name)
            if needed.marker and not needed.marker.evaluate({"extra": ""}):
                continue
            if found is None or not needed.specifier.contains(found, prereleases=True):
                yield Finding(
                    f"{name} {installed(name)} needs {needed.name}{needed.specifier}, found "
                    f"{found or 'none'}",
                    f"pip install '{needed.name}{needed.specifier}'",
                )


def training_commands(host: str) -> list[list[str]]:
    """Each training command of the host, how it is extended, and its weak losses."""
    if host == NEQUIP:
        names = output_of([sys.executable, "-W", "ignore", "-c", NEQUIP_PROOF]).split()
        return [["nequip-train", "entry point nequip.extension", offered(names)]]
    script = Path(sys.executable).with_name(CONSOLE)
    console = [str(script) if script.exists() else which(CONSOLE) or CONSOLE]
    launcher = [sys.executable, "-W", "ignore", "-m", LAUNCHER]
    route = "patch with mace.losses" if is_patched() else "entry point torch.backends"
    return [
        [CONSOLE, route, offered(losses_in_help(console))],
        [f"python -m {LAUNCHER}", "the module itself", offered(losses_in_help(launcher))],
    ]


def losses_in_help(program: list[str]) -> list[str]:
    """The losses that a training command of MACE accepts, by its help."""
    choices = re.search(r"--loss \{([^}]*)\}", output_of([*program, "--help"]))
    return choices[1].split(",") if choices else []


def offered(names: Collection[str]) -> str:
    """The weak losses among ``names``."""
    return " ".join(name for name in LOSSES if name in names)


def output_of(program: list[str]) -> str:
    """What a program prints; nothing if it fails or is not there."""
    try:
        done = subprocess.run(program, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def is_patched() -> bool:
    """Whether this MACE reads the entry points of losses by itself."""
    from mace_weak.mace.wrappers import PATCH_MODULE

    package = find_spec("mace")
    places = package.submodule_search_locations if package else None
    return any((Path(place) / "tools" / PATCH_MODULE).exists() for place in places or ())


def unreachable(command: str, losses: Sequence[str]) -> Iterator[Finding]:
    """The weak losses that a command does not accept, and why."""
    missing = [name for name in LOSSES if name not in losses]
    if not missing:
        return
    off = [name for name in (OPT_OUT, AUTOLOAD) if os.environ.get(name) == "0"]
    again = "reinstall mace-weak and its host in this environment: its entry points are not read"
    mend = f"unset {' and '.join(off)}, or train by python -m {LAUNCHER}" if off else again
    yield Finding(f"{command} does not offer {', '.join(missing)}", mend)
