"""What users run from a clone, as ``python -m recipes.…``: a quickstart, recipes, a benchmark."""
