"""Names under which files have labels where no others are given: those of both hosts' recipes."""

ENERGY_KEY, FORCES_KEY, STRESS_KEY = "REF_energy", "REF_forces", "REF_stress"
ISOLATED = "IsolatedAtom"  # MACE's config_type of an atom that gives its element's energy
