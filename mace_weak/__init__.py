"""Physics-informed, weakly supervised losses for machine-learned interatomic potentials.

The core (this package's own modules) knows tensors and callable potentials and imports torch
only; each host trainer has one adapter sub-package (``mace_weak.mace``).
"""
