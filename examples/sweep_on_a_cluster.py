"""A sweep on a Dask cluster: worker processes on this machine, or jobs of SLURM with `--slurm`."""

import sys

from dask.distributed import Client, LocalCluster

import ssm


def slurm():
    """Eight jobs of sixteen workers. Not run by the tests: it needs a SLURM cluster and dask-jobqueue,
    and `ssm` installed where the jobs run."""
    from dask_jobqueue import SLURMCluster

    cluster = SLURMCluster(cores=16, processes=16, memory="32GB", walltime="02:00:00")
    cluster.scale(jobs=8)
    return cluster


if __name__ == "__main__":  # workers import this file
    local = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "localhost:0"}
    cluster = slurm() if "--slurm" in sys.argv else LocalCluster(**local)
    grid = {"imbalance_ratio": [1, 10, 100], "weight_exponent": [0, 0.5, 1], "seed": range(10)}
    base = ssm.Config(loss="squared", num_saves=100)
    with cluster, Client(cluster) as client:
        # Only this process writes the store; given again, the call goes on where it was.
        swept = ssm.sweep(grid, base, store="cluster.zarr", client=client)
        print(swept.status.to_series().value_counts().to_dict())
