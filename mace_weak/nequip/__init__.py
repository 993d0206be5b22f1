"""The adapter for NequIP: weak losses and training modules that ``nequip-train`` configures."""
