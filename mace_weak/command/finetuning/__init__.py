"""What ``mace-weak finetune`` does."""
