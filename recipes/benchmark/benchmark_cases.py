"""The declarative list of cases: ``cases.yaml`` and its combinations."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
SHARED = "shared/"
SCRATCH = "none"


def located(file: str, shared: Path) -> Path:
    """Where a file of ``cases.yaml`` lies; ``shared`` is the folder of shared data."""
    if file.startswith(SHARED):
        return shared / file.removeprefix(SHARED)
    return (HERE / file).resolve()


@dataclass(frozen=True)
class Case:
    """One training: what varies over a set of cases."""

    data: str
    method: str
    structures: int
    lr: float
    steps: int
    seed: int

    @property
    def title(self) -> str:
        return " ".join(str(value) for value in asdict(self).values())


@dataclass(frozen=True)
class Source:
    """A file of structures, the part of it that is used, and the names of its labels."""

    file: str
    index: str = ":"
    part: str = ""  # see ``benchmark_data.PARTS``
    energy_key: str = "REF_energy"
    forces_key: str = "REF_forces"
    stress_key: str = "REF_stress"

    def path(self, shared: Path) -> Path:
        return located(self.file, shared)


@dataclass(frozen=True)
class Data:
    """Structures to choose the training set from, unseen ones, and the foundation model.

    ``flags`` are those of ``mace_run_train`` that all methods need with these data. ``minimum`` is
    a file with the minimum of a molecule and its wavenumbers.
    """

    train: Source
    test: Source
    foundation: str = "molecules"
    batch_size: int = 5
    flags: Mapping[str, Any] = field(default_factory=dict)
    minimum: str = ""

    def absent(self, shared: Path) -> list[str]:
        """Files that are not there."""
        sources = (self.train, self.test)
        return [source.file for source in sources if not source.path(shared).exists()]


@dataclass(frozen=True)
class Method:
    """A way to train: the labels that it sees, and the flags of ``mace_run_train``.

    ``labels`` is a name of ``benchmark_data.LABELS``. ``foundation`` names another starting point
    than that of the data, or is ``none``; with ``anchored``, the weak terms act on the difference
    to that of the data all the same. ``replayed`` structures of the foundation's training set are
    trained on by a head of their own. ``closed_form`` is ``mace-weak finetune``, without flags.
    """

    labels: str = "energies"
    foundation: str = ""
    anchored: bool = False
    replayed: int = 0
    closed_form: bool = False
    flags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Foundation:
    """How a foundation model is made: a configuration of the host, structures, and epochs.

    ``flags`` are those of ``mace_run_train`` beside the configuration. Or the ``model`` file of one
    that is released.
    """

    config: str = ""
    train: Source = Source("")
    epochs: int = 0
    flags: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""


def sourced(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of ``cases.yaml`` with its structures as sources."""
    sources = {key: Source(**entry[key]) for key in ("train", "test") if key in entry}
    return {**entry, **sources}


@dataclass(frozen=True)
class Plan:
    """The content of ``cases.yaml``."""

    foundations: dict[str, Foundation]
    data: dict[str, Data]
    methods: dict[str, Method]
    sets: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Plan:
        content = yaml.safe_load(path.read_text())
        return cls(
            {name: Foundation(**sourced(value)) for name, value in content["foundations"].items()},
            {name: Data(**sourced(value)) for name, value in content["data"].items()},
            {name: Method(**value) for name, value in content["methods"].items()},
            content["sets"],
        )

    def with_data(self, own: Data) -> Plan:
        """The same plan on files of the user's."""
        sets = {name: {**lists, "data": ["own"]} for name, lists in self.sets.items()}
        return replace(self, data={"own": own}, sets=sets)

    def cases(self, name: str) -> Iterator[Case]:
        """All combinations of the lists of a set, those of the first seed first.

        The closed form has no learning rate and no steps: one case for all of these.

        Raises:
            SystemExit: if there is no such set.
        """
        if name not in self.sets:
            raise SystemExit(f"there is no set '{name}': the sets are {', '.join(self.sets)}")
        lists = self.sets[name]
        names = ["seed", *(field.name for field in fields(Case) if field.name != "seed")]
        found = (
            Case(**dict(zip(names, values, strict=True)))
            for values in itertools.product(*(lists[key] for key in names))
        )
        yield from dict.fromkeys(map(self.without_settings, found))

    def without_settings(self, case: Case) -> Case:
        """A case of the closed form without those of trainings."""
        closed = self.methods[case.method].closed_form
        return replace(case, lr=0, steps=0) if closed else case
