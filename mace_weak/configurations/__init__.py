"""Configurations of trainings on few structures: of MACE, and of NequIP for Hydra."""
