"""What ``mace-weak check`` looks at."""
