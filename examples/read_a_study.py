"""A small study from Python, and its numbers without the report: who is shown to gain, and whose recall it cost."""

from pathlib import Path

from ssm.practice.comparisons import compare
from ssm.practice.studies import run_study

from ssm.practice.options import StudyOptions

# Few folds and steps, so that it takes seconds; a study to believe has the defaults.
options = StudyOptions(
    "digits",
    strategies="erm,inverse,la",
    models="logistic,network",
    imbalance_ratio=10,
    folds=3,
    seeds=1,
    num_steps=200,
    ablations=False,
    sensitivity=False,
)
record = run_study(options, Path("study"))  # given again it goes on, or reads what is there

# Decisions as weights and loss made them; other corrections are "training", "uniform", "temperature".
scores = record.sel(correction="none").isel(variant=(record.model == "network").values)
metrics = scores[["balanced_accuracy", "worst_class_recall"]]
for row in compare(metrics, "erm", options.margin):
    interval = f"{row.simultaneous_low:+.3f} to {row.simultaneous_high:+.3f}"
    print(f"{row.metric}, {row.variant}: {row.difference:+.3f} ({interval}), {row.verdict}")

# A mean hides whose recall was paid for; classes are in the order of the labels, 5 to 9 are rare.
print(scores.recall.mean(["seed", "fold"]).to_pandas().round(2))
