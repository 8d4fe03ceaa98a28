"""Datasets drawn on axes: single runs, sweeps, and the style that all figures share."""
