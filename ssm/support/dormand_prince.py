"""The stages of the explicit pair 5(4) of Dormand and Prince, by which runs and predictions are both stepped.

Neither may import the other, so the table stands in a room that both import. Source: Dormand, Prince 1980.
"""

STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
"""Row i has the weights of the first i + 1 slopes in the next state that is tried; the last row is the step itself."""
