"""Two molecules beyond the cutoff: a short-range and a long-range model."""
