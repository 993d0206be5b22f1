"""The command ``mace-weak``: check, select, fine-tune and evaluate around a training."""
