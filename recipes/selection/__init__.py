"""Structures chosen for their forces against random picks."""
