"""Physics-informed, weakly supervised losses for machine-learned interatomic potentials.

The core (this package's own modules and ``mace_weak.tangent``) knows tensors and callable
potentials and imports no host; each host has one adapter, ``mace_weak.mace`` and
``mace_weak.nequip``.
"""
