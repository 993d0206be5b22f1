"""The MACE adapter: `mace_run_train --loss=weak_taylor` on stock or patched mace-torch."""
