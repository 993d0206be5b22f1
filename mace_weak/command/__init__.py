"""The command ``mace-weak``: what to check, select and judge around a training."""
