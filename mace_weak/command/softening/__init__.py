"""How ``mace-weak soften`` corrects a model, and its effect."""
