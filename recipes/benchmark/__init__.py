"""The weak losses and the closed form against the baselines of the field."""
