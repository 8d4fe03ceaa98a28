"""Datasets drawn on axes: single runs, sweeps, studies, and the style that all figures share."""
