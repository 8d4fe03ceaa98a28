"""The model on data of your own: features made of inputs, trained on some rows and asked about others."""

import ssm

# Stands for your data: a row a sample, and an integer 0 ... k - 1 for each.
X, y = ssm.mixture_inputs(
    ssm.Config(num_classes=4, minority_count=20, coupling=0.03, noise_dim=400)
)
held_out = X[1::2], y[1::2]
for exponent in (0, 1):
    config = ssm.Config(weight_exponent=exponent)
    run = ssm.simulate(config, inputs=X[::2], labels=y[::2], held_out_data=held_out)
    balanced = run.held_out_accuracy.mean("class")
    best = balanced.argmax("time").item()
    print(f"exponent {exponent}: held-out recalls at the end {run.held_out_accuracy[-1].values}")
    print(f"  best at t = {run.time[best]:.0f}, balanced accuracy {balanced[best]:.2f}")
