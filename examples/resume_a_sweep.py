"""A sweep that is stopped half way and goes on where it was, to the same bits."""

import ssm

grid = {"weight_exponent": [0, 0.5, 1], "seed": range(4)}
base = ssm.Config(num_classes=4, loss="squared", num_saves=10)


def stop_half_way(done: int, total: int) -> None:
    """Stands for Ctrl-C, a walltime or a power cut."""
    print(f"{done} of {total} runs")
    if done >= total // 2:
        raise KeyboardInterrupt


try:
    ssm.sweep(grid, base, store="resumed.zarr", chunk_size=2, progress=stop_half_way)
except KeyboardInterrupt:
    print("stopped")

done: list[int] = []
swept = ssm.sweep(
    grid, base, store="resumed.zarr", chunk_size=2, progress=lambda now, _: done.append(now)
)
print(f"went on from {done[0]} to {done[-1]}")
assert (swept.status == "finished").all()
assert swept.load().block_learning_time.equals(ssm.sweep(grid, base).block_learning_time)

# A store is of one base; another is refused, with the difference. More values of an axis make it grow.
try:
    ssm.sweep(grid, ssm.Config(num_classes=4, num_saves=10), store="resumed.zarr")
except ssm.InputError as error:
    print(error)
