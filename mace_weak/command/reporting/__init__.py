"""What ``mace-weak report`` reads and shows."""
