"""What is reweighting worth on real data, on the way and at the end?

Small studies (`ssm study`) of three data sets with a small network that is trained to the end (no early
stopping), and what held-out recall does on the way: evaluated after every step of the first 60, where early
can be told from late, then after every thirtieth. It takes three minutes: five folds, four seeds, five
strategies.

- `digits`: scikit-learn's ten digits, five of them cut to a tenth.
- `digit 8`: one of them against the rest, 174 images against 1623, nothing cut. Digits 3 and 5 were the
  trials by which this kind of data and the readings below were chosen; 8 was not looked at.
- `breast cancer`: cut to 10:1, which leaves 36 malignant samples, six held out in a fold. Its study leaves most
  undecided, so its course is drawn and judged anew on 50 draws of 28 malignant and 280 benign samples to train
  on, with all others held out, 184 and 77; intervals are Student's over draws of this one data set.

Claimed before the run, from the model and from the literature on adjusted logits. Digits and breast cancer
had been studied with an evaluation every 30 steps, which came too late for most of what is early. Differences
are judged by the 95 % interval of repeated cross-validation:

- early in training weights lead: at the first step at which ERM's majorities have a recall of 0.9,
  minorities are ahead under inverse-frequency weights, and so is balanced accuracy, for majorities lose
  less than minorities gain;
- the lead shrinks as training goes on, and at the end the two have the same balanced accuracy within
  0.05 (weights leave no trace in the terminal phase: two one-sided tests, by the interval);
- what weights gain for minorities they hardly take from majorities at the end;
- stopping early pays where samples of minorities are few and classes overlap, for breast cancer, and not for
  digits: balanced accuracy under weights at the step that is best on the other seeds, less that at the end
  (as a fall that had been seen of breast cancer in a single run made one think);
- at the end a correction of the probabilities, ERM with post-hoc logit adjustment, does what inverse
  weights do for balanced accuracy, or is no more than 0.02 behind;
- and taking log w back from weighted logits no longer gives back calibration, at most 0.01 of its error:
  logits of a network that fits its samples do not hold it.

The last two were stated with margins of 0 at first, of means and then of intervals, by which differences
of next to nothing are undecided; the margins were chosen with the earlier study at hand.

What folds showed beside that, that minority recall of weights is highest early and then gives way while
their majorities go on gaining, is claimed of the draws, before these were run.

Tables of one's own take the place of these data sets with `--tables`.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import xarray as xr

from experiments import practice_figures
from experiments import practice_runs as read
from experiments.claims import Claim, Claims, Estimate
from experiments.practice_runs import Curves
from experiments.readings import Report, part
from ssm.config import profiles
from ssm.practice.statistics import comparisons

FALLS = "breast cancer"  # where stopping early is to pay
FITTED = 0.95  # majority recall of weights, by which their majorities have caught up
MARGIN = 0.05  # of balanced accuracy within which two strategies are called equal
COST = 0.02  # of majority recall at the end, or of balanced accuracy on the way: next to nothing
CALIBRATION = 0.01  # of a calibration error: next to nothing


def run(out: Path, quick: bool, report: Report, tables: Path | None = None) -> list[Claim]:
    """Study each data set (a smoke run: digits alone, once, and two strategies), draw them, and
    claim what was expected. `tables`: a folder whose tables take their place, each with figures of its own."""
    found, results = Claims(), {}
    with tempfile.TemporaryDirectory() as folder:
        chosen = read.own_studies(tables) if tables else read.own_choice(Path(folder))
        if quick:
            first = next(iter(chosen))
            chosen = {first: dataclasses.replace(chosen[first], seeds=1, strategies="erm,inverse")}
        for i, (name, study) in enumerate(chosen.items()):
            own = part(report, 0.9 * i / len(chosen), 0.9 * (i + 1) / len(chosen))
            results[name] = read.studied(study, Path(folder) / name, own)
            found += [
                *_course_claims(name, results[name].course),
                *_end_claims(name, results[name].record),
            ]
    if not (quick or tables):
        drawn = read.breast_cancer_draws(read.DRAWS, part(report, 0.9, 1.0))
        results[FALLS] = results[FALLS]._replace(course=drawn)
        found += _draw_claims(drawn)
    figures = {f"_{name}": {name: x} for name, x in results.items()} if tables else {"": results}
    for suffix, shown in figures.items():
        practice_figures.draw_course(out / f"practice{suffix}.png", shown)
        practice_figures.draw_end(out / f"practice_end{suffix}.png", shown)
    report(1.0)
    return found


def difference(metric: str, a: xr.DataArray, b: xr.DataArray) -> Estimate:
    """a less b over seeds and folds, with the interval of repeated cross-validation; over draws, of one
    fold each, with Student's."""
    if a.sizes["fold"] == 1:
        return Estimate.over_seeds(a - b)
    variants = xr.Variable("variant", ["b", "a"])
    pair = xr.concat([b, a], variants, coords="minimal", compat="override")
    found = comparisons.compare(pair.to_dataset(name=metric), "b", MARGIN)[0]
    return Estimate(found.difference, found.low, found.high)


def best_of_others(balanced: xr.DataArray) -> tuple[xr.DataArray, list[int]]:
    """Balanced accuracy (seed, fold) at the step that is best on the mean of all other seeds, so that no
    seed chooses its own step; and the indices of these steps."""
    mean = balanced.mean("fold")
    others = [mean.drop_isel(seed=[i]).mean("seed").values for i in range(mean.sizes["seed"])]
    steps = [int(values.argmax()) for values in others]
    return balanced.isel(step=xr.DataArray(steps, dims="seed")), steps


def _course_claims(name: str, course: Curves) -> list[Claim]:
    """What is early, and that it passes."""
    lead = course.recall["inverse"] - course.recall["erm"]
    lead, zero = lead.sel(group=profiles.MINORITY, drop=True), xr.zeros_like(lead[0, ..., 0])
    early, last = lead.isel(step=course.early), lead.isel(step=-1)
    at = f"step {course.steps[course.early]:.0f}"
    found = Claims(name)
    gained = difference("recall", early, zero)
    found.at_least("early lead of weights in minority recall", 0, gained, at)
    balanced = (
        x.isel(step=course.early) for x in (course.balanced["inverse"], course.balanced["erm"])
    )
    gained = difference("balanced_accuracy", *balanced)
    found.at_least("early lead of weights in balanced accuracy", 0, gained, at)
    shrinks, note = difference("recall", early, last), f"lead at the end {float(last.mean()):.3f}"
    found.at_least("early lead in minority recall less the lead at the end", 0, shrinks, note)
    own = course.balanced["inverse"]
    if own.sizes["seed"] > 1:
        best, steps = best_of_others(own)
        fall = difference("balanced_accuracy", best, own.isel(step=-1))
        listed = ", ".join(f"{course.steps[i]:.0f}" for i in sorted(set(steps)))
        note = f"{float(best.mean()):.3f} at step {listed}; {float(own.isel(step=-1).mean()):.3f}"
        statement = "held-out balanced accuracy of weights at the step that is best on other seeds, less that at the end"
        if name.startswith(FALLS):
            found.at_least(statement, 0, fall, note)
        else:
            found.at_most(statement, COST, fall, note)
    return found


def _draw_claims(course: Curves) -> list[Claim]:
    """Breast cancer with many held out: the same on the way, and what minorities give back."""
    name = f"{FALLS}, {read.DRAWS} draws, all others held out"
    found = Claims(name)
    found += _course_claims(name, course)
    weighted, erm = course.balanced["inverse"], course.balanced["erm"]
    statement = "balanced accuracy at the end, weights less ERM, equal within the margin"
    equal = difference("balanced_accuracy", weighted.isel(step=-1), erm.isel(step=-1))
    found.between(statement, (-MARGIN, MARGIN), equal, 0)
    of_groups = course.recall["inverse"]
    majority = of_groups.sel(group=profiles.MAJORITY).mean(("seed", "fold")).values
    at = read.first(majority, FITTED)
    minority = of_groups.sel(group=profiles.MINORITY, drop=True)
    lost = difference("recall", minority.isel(step=at), minority.isel(step=-1))
    note = f"{float(minority.isel(step=at).mean()):.3f} at step {course.steps[at]:.0f}"
    statement = f"minority recall of weights when their majorities reach {FITTED:g}, less that at the end (derived after looking at folds)"
    found.at_least(statement, 0, lost, note)
    return found


def _end_claims(name: str, record: xr.Dataset) -> list[Claim]:
    """What is left at the end."""
    majorities = read.groups(record) == profiles.MAJORITY

    def score(metric: str, variant: str, correction: str = "none") -> xr.DataArray:
        found = record[metric].sel(variant=variant, correction=correction)
        return found.drop_vars(["variant", "correction"])

    def majority(variant: str) -> xr.DataArray:
        return score("recall", variant).isel({"class": majorities}).mean("class")

    balanced = "balanced_accuracy", score("balanced_accuracy", "inverse")
    found = Claims(name)
    statement = "balanced accuracy at the end, weights less ERM, equal within the margin"
    equal = difference(*balanced, score("balanced_accuracy", "erm"))
    found.between(statement, (-MARGIN, MARGIN), equal, 0)
    cost = difference("recall", majority("erm"), majority("inverse"))
    found.at_most("majority recall that weights cost at the end", COST, cost)
    statement = "balanced accuracy at the end, ERM corrected to equal shares less weights"
    corrected = score("balanced_accuracy", "erm", "uniform")
    found.at_least(statement, -COST, difference(balanced[0], corrected, balanced[1]))
    statement = "calibration error at the end, weights with log w taken back less without"
    errors = (score("calibration_error", "inverse", x) for x in ("training", "none"))
    found.at_least(statement, -CALIBRATION, difference("calibration_error", *errors))
    return found
