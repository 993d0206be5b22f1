"""How ``mace-weak select`` chooses."""
