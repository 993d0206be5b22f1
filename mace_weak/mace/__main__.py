"""``python -m mace_weak.mace …`` is ``mace_run_train …`` with the weak losses activated.

For environments in which torch does not load its entry points
(``TORCH_DEVICE_BACKEND_AUTOLOAD=0``), or with activation turned off.
"""

from mace_weak.mace.activation import register


def main() -> None:
    """Activate the losses, then run MACE's own training script."""
    register()
    from mace.cli.run_train import main as run_train

    run_train()


if __name__ == "__main__":
    main()
