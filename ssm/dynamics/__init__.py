"""How parameters move: the vector field, its integration as a flow, the steps of an optimiser.

Nothing here imports `ssm.theory`, nor the other way round, so that no prediction can leak into the run that it is held
against.
"""
