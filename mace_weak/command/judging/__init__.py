"""What ``mace-weak evaluate`` measures and shows."""
