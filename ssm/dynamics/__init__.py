"""How parameters move: the vector field, its integration as a flow, the steps of an optimiser.

Nothing here imports `ssm.theory`, nor the other way round: a prediction cannot leak into what it is held against.
"""
