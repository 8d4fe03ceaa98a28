"""Grids of runs: their axes, their layout in compilations, their execution on cores and clusters."""
