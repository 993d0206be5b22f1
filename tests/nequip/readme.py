"""What follows from the code in the READMEs: a configuration, and the roads through NequIP."""

from __future__ import annotations

from pathlib import Path

from datafiles import CONFIGURATIONS
from readme_tables import NEQUIP, SUPPORTED, roads_table
from roads import OTHER_ROADS, ROADS

from recipes.quickstart.tables import with_table


def updated() -> dict[Path, str]:
    """The pages as they should be."""
    config = (CONFIGURATIONS / "nequip_finetune.yaml").read_text()
    block = f"```yaml\n{config}```"
    return {
        NEQUIP: with_table(NEQUIP.read_text(), "nequip config", block),
        SUPPORTED: roads_table(SUPPORTED.read_text(), "nequip", ROADS, OTHER_ROADS),
    }


if __name__ == "__main__":
    for path, text in updated().items():
        path.write_text(text)
