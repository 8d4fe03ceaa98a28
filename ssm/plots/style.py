"""Colours and widths of all figures."""

from __future__ import annotations

from ssm.config import profiles

# Okabe and Ito's colour-blind-safe palette
COLORS = {profiles.MAJORITY: "#0072B2", "cross": "#7F7F7F", profiles.MINORITY: "#D55E00"}
PARTS = {"W": "#009E73", "H": "#CC79A7", "Z": "#000000"}  # so neither group's colour
COLUMN_WIDTH, PAGE_WIDTH = 3.5, 7.2  # inches
