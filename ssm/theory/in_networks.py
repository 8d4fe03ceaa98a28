"""What of the closed forms trained networks were found to share, as the experiments `bridge`, `digits` and `network_gap`
measured it (figures/claims.md)."""

NEAR = 0.05
"""Exponents of class weights that differ by no more than this are not told apart: as near to the balancing exponent as
this, measured networks learned both groups at once."""
RATIOS = (
    "Ratios of learning times do not carry over to networks (digits, 130:13 images, coupling 0.4, ERM, "
    "minority over majority: 9.4 in the model, 3.4 in the network)."
)
"""The sentence on ratios, which do not carry over."""
