"""Measures of logits and parameters: spectra, geometry, accuracy."""
