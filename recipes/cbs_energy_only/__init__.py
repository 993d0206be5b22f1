"""Fine-tuning on coupled-cluster energies alone."""
