"""What is read off logits and parameters: spectra, geometry, accuracy."""
