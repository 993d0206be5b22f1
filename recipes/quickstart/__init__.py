"""A foundation model, fine-tuned on few energies, with either host."""
