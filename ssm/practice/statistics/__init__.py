"""Scores, calibration and paired comparisons of what networks predict."""
