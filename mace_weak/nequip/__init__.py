"""The adapter for NequIP: weak losses and training modules that ``nequip-train`` configures."""

# fields that a structure of the training set carries for the weak terms
STRUCTURE = "weak_structure"  # (num_frames, 1), its number in the training set
ANCHOR_ENERGY = "weak_anchor_energy"  # (num_frames, 1), E₀(S) in eV
ANCHOR_FORCES = "weak_anchor_forces"  # (num_atoms, 3), F₀(S) in eV/Å
