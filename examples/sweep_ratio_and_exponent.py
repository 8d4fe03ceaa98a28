"""How many times later are minorities learned, over imbalance ratio R and weight exponent g, and what does theory say?"""

import ssm

ratios, exponents = [1, 10, 100, 1000], [0, 0.5, 1]
base = ssm.Config(loss="squared", init_scale=1e-6)
grid = {"imbalance_ratio": ratios, "weight_exponent": exponents, "seed": range(10)}
swept = ssm.sweep(grid, base)  # 120 runs, compiled once
assert (swept.status == "finished").all()

# A dimension for each axis, so that a question is a selection.
times = swept.block_learning_time.median("seed")
measured = (times.sel(block="minority") / times.sel(block="majority")).to_pandas()
print(measured.round(2))

# Features are free here (coupling 0), where small starts have R^(1/2 - g).
expected = measured.copy()
for g in exponents:
    expected[g] = [R ** (0.5 - g) for R in ratios]
print((measured / expected).round(2))
