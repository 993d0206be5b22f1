"""Optimal designs against random picks."""
