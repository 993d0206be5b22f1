"""Which host versions are supported: stated once, in setup.cfg, and read from there."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from mace_weak.errors import WeakLossError

DISTRIBUTION = "mace-weak"
MACE = "mace-torch"
NEQUIP = "nequip"
GRAPH_LONGRANGE, LES = "graph-longrange", "les"  # of MACE's long-range models
NEQUIP_NET = "nequip.net:"  # begins the name of a model that nequip downloads


def supported(host: str) -> Requirement:
    """The requirement on ``host`` (a distribution's name) that mace-weak declares."""
    for line in requires(DISTRIBUTION) or ():
        requirement = Requirement(line)
        if requirement.name == host:
            return requirement
    raise WeakLossError(f"mace-weak declares no support for {host}")


def installed(distribution: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def require_supported(host: str) -> None:
    """Check that the installed ``host`` is in the supported range.

    Raises:
        WeakLossError: if it is not.
    """
    requirement, found = supported(host), installed(host)
    if found is None or not requirement.specifier.contains(found, prereleases=True):
        raise WeakLossError(
            f"the weak losses support {host} {requirement.specifier}, found {found or 'none'}: "
            f"pip install '{host}{requirement.specifier}'"
        )


def refuse_together(*hosts: str) -> None:
    """Refuse an environment in which all of ``hosts`` are installed.

    Raises:
        WeakLossError: if all are, since their pins of e3nn exclude each other.
    """
    found = {host: installed(host) for host in hosts}
    if all(found.values()):
        names = " and ".join(f"{host} {number}" for host, number in found.items())
        raise WeakLossError(
            f"{names} are in one environment with e3nn {installed('e3nn')}, but they need "
            "different versions of e3nn: make an environment for each"
        )
