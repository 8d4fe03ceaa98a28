"""Features that move: of all rows, or of one class; how seldom they are said to where they do not."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import ssm
from ssm.practice.reporting import watch_page
from ssm.practice.watching import features, moved, records, summaries
from ssm.practice.watching import watch as watching
from ssm.practice.watching.features import Features, Result
from ssm.practice.watching.progress import Settings
from ssm.practice.watching.watch import Watch

LEVEL, WEEKS = 0.05, 52
LAST = 9
"""Weeks of a planted shift, from the seventh on."""


def cases(rng, number, share=1 / 11, ill_scale=1.0):
    """Two measurements of each, one of which is skew and often missing, and who is ill."""
    ill = rng.random(number) < share
    x = rng.normal(size=(number, 2)) + np.outer(ill, [2.2, 1.4])
    x[ill, 0] *= ill_scale
    x[:, 1] = np.where(rng.random(number) < 0.2, np.nan, np.exp(x[:, 1]))
    return x.astype(np.float32), ill


def watched(rng, weeks, a_week=1200, **changed):
    """What is found in weeks of which those from the seventh on are `changed`, shape of `Features`; class 1 is ill."""
    found = Features(LEVEL, WEEKS, 2, 4)
    for week in range(weeks):
        x, ill = cases(rng, a_week, **(changed if week >= 6 else {}))
        lots = rng.permutation(a_week)
        found.take(2, (lots, x), week)
        for c in (0, 1):
            found.take(c, (lots[ill == c], x[ill == c]), week)
    return found


def test_features_of_one_class_that_move_are_found_and_named():
    found = watched(np.random.default_rng(0), LAST, ill_scale=0.6)
    assert set(found.found) <= {1, 2} and 1 in found.found
    result = found.found[1]
    assert result.feature == 0 and result.window <= 7 and result.separation > 0.6
    assert result.now[1] == pytest.approx(0.6 * 2.2, abs=0.2)
    assert result.usual[1] == pytest.approx(2.2, abs=0.2)


def test_shares_that_move_move_no_class():
    """From 1 : 10 to 1 : 3: all rows are others than before, those of each class are not."""
    found = watched(np.random.default_rng(1), LAST, share=1 / 4)
    assert set(found.found) == {2}
    assert {0, 1} <= set(found.last)


def test_rows_without_labels_tell_that_something_moved():
    rng, found = np.random.default_rng(2), Features(LEVEL, WEEKS, 2, 4)
    for week in range(LAST):
        x, _ = cases(rng, 1200)
        x[:, 0] += 0.4 * (week >= 6)
        found.take(2, (rng.permutation(1200), x), week)
    assert set(found.found) == {2} and found.found[2].window == 6


def test_the_p_value_holds_for_skew_and_tied_features():
    """A rare yes or no beside a large reference, where a normal law of ranks is wrong by far: 120 pairs of samples, on each level
    as many as a binomial law allows."""
    rng = np.random.default_rng(3)
    p = [
        features.two_sample(*((rng.random((m, 1)) < 0.02).astype(float) for m in (600, 100)))[0]
        for _ in range(120)
    ]
    for level in (0.2, 0.05, 0.01):
        assert np.mean(np.array(p) <= level) <= stats.binom.ppf(0.999, 120, level) / 120


@pytest.mark.slow
def test_clean_years_of_features_seldom_alarm():
    """Of 4 years of three series at a level of 5 %, more than one says something with a probability of 1.4 %."""
    rng = np.random.default_rng(4)
    assert sum(bool(watched(rng, WEEKS, a_week=300).found) for _ in range(4)) <= 1


@pytest.mark.slow
def test_how_small_a_shift_is_found():
    """Half a standard deviation in one of five features, at the level that three series have in one of 52 weeks: 30 batches of each
    size. In one of six, as with 180 rows, none of 30 has a probability of 0.4 %."""
    rng, level = np.random.default_rng(8), LEVEL / 3 * 0.9 / WEEKS
    found = []
    for before, after in ((2000, 1000), (700, 180)):
        shift = np.array([0.5, 0, 0, 0, 0])
        pairs = [
            (rng.normal(size=(before, 5)), rng.normal(size=(after, 5)) + shift) for _ in range(30)
        ]
        found.append(np.mean([features.two_sample(*pair)[0] <= level for pair in pairs]))
    assert found[0] == 1 and 0 < found[1] < 0.6


def test_a_reference_waits_until_it_is_large_enough():
    """Eleven rows of a class a week: ten weeks to a hundred, and ten more to a test. Rows without any feature say nothing."""
    rng, found = np.random.default_rng(5), Features(LEVEL, WEEKS, 2, 4)
    for week in range(30):
        x = rng.normal(size=(11, 2))
        x[0] = np.nan
        found.take(0, (rng.permutation(11), x), week)
        assert found.tests.get(0, 0) == (week + 1) // 10 - (week >= 9)
    assert found.last[0].rows == 100


def test_columns_that_say_nothing_are_no_obstacle():
    """Constant, all missing, missing in one sample alone, and beyond the range of the rest."""
    rng = np.random.default_rng(6)
    usual, now = rng.normal(size=(200, 4)), rng.normal(size=(150, 4))
    for x in (usual, now):
        x[:, 0], x[:, 1] = 3, np.nan
        x[0, 3] = 1e30
    assert features.two_sample(usual, now)[0] > 0.001
    now[:, 2] = np.nan
    assert features.two_sample(usual, now)[0] < 1e-12
    assert features._moved_most(usual, now) == 2 and features._quartiles(now[:, 2]) == ()


def log_of(path, rng, weeks, **changed):
    """A log of decisions, whose labels come with the rows, and which is `changed` from the seventh week on."""
    parts = []
    for week in range(weeks):
        x, ill = cases(rng, 1200, **(changed if week >= 6 else {}))
        table = pd.DataFrame(x, columns=["feature_size", "feature_dose, mg"])
        right = rng.random(len(x)) < 0.9
        label, other = np.where(ill, "ill", "well"), np.where(ill, "well", "ill")
        table["prediction"], table["label"] = np.where(right, label, other), label
        table.insert(0, "time", 1704067200 + 7 * 86400 * week)
        parts.append(table)
    pd.concat(parts).to_csv(path, index=False)
    return path


def read(log, out):
    watch = Watch(log, out, Settings(), watching.Model(("ill", "well")))
    with watch.kept():
        watch.read()
    return summaries.summary(watch)


def test_a_log_with_features_goes_from_its_lines_to_the_page(tmp_path, monkeypatch):
    """Read at once or by parts in small blocks: the same. Recall stands, so that there is no alarm, but something to look at."""
    log = log_of(tmp_path / "log.csv", np.random.default_rng(7), 9, ill_scale=0.5)
    found = read(log, tmp_path / "whole")
    assert not found["alarms"] and found["advice"]["action"] == "look"
    said = found["features"]
    assert said["names"] == ["size", "dose, mg"] and said["kind"] == "class"
    result = next(each for each in said["found"] if each["class"] == "ill")
    assert result["feature"] == "size" and result["raised"] == "2024-02-12"
    page = watch_page.write_page(found, tmp_path / "whole").read_text()
    assert "Features have moved within a class: ill (most of all size)" in page
    monkeypatch.setattr(watching, "BLOCK", 20_000)
    content, part = log.read_bytes(), tmp_path / "parts" / "log.csv"
    part.parent.mkdir()
    for end in (5_000, 150_000, len(content)):
        part.write_bytes(content[:end])
        again = read(part, tmp_path / "again")
    assert again == found


def test_entries_that_are_no_numbers_are_missing(tmp_path):
    log = tmp_path / "log.csv"
    log.write_bytes(b"time,prediction,label,feature_a,feature_b\n")
    columns = records.read_header(log, ("x", "y"))
    rows = records.parse(b"1704067200,x,y,1.5,\n1704067200,x,,red,1e999\n", columns)
    assert rows.features is not None and not rows.unreadable.any()
    np.testing.assert_array_equal(rows.features, [[1.5, np.nan], [np.nan, np.nan]])
    log.write_text(
        ",".join(["time,prediction,label", *(f"feature_{i}" for i in range(101))]) + "\n"
    )
    with pytest.raises(ssm.InputError, match="at most 100 columns feature_NAME"):
        records.read_header(log, ("x", "y"))


@pytest.mark.parametrize(
    ("found", "tested", "shares_moved", "kind"),
    [
        ((), (), False, "wait"),
        ((), (2,), False, "still"),
        ((2,), (2,), False, "unknown"),
        ((2,), (0, 2), True, "unknown"),
        ((2,), (0, 1, 2), True, "shares"),
        ((2,), (0, 1, 2), False, "unknown"),
        ((1, 2), (0, 1, 2), True, "class"),
        ((1,), (0, 1, 2), False, "class"),
    ],
)
def test_shares_and_classes_are_told_apart(found, tested, shares_moved, kind):
    of = Features(LEVEL, WEEKS, 2, 4)
    results = [Result(i, 6, 500, 1e-9, 0.7, 0, (0, 1, 2), (1, 2, 3)) for i in range(3)]
    of.last = {i: results[i] for i in tested}
    of.found = {i: results[i] for i in found}
    said = moved.summary(of, ["size"], ["well", "ill"], shares_moved, str)
    assert said["kind"] == kind and bool(said["found"]) == bool(found)
    assert ("ill" in said["words"]) == (kind == "class" or (kind == "unknown" and 1 not in tested))


def test_a_few_wrong_numbers_hide_no_shift():
    rng = np.random.default_rng(4)
    usual, now = rng.normal(size=(2000, 2)), rng.normal((1.0, 0.0), size=(1000, 2))
    usual[:2, 0] = 1e9
    assert features.two_sample(usual, now)[0] < 1e-20


def test_a_feed_that_is_dead_is_found():
    """All features are missing in all rows from the seventh week on."""
    rng, found = np.random.default_rng(5), Features(LEVEL, WEEKS, 2, 4)
    for week in range(LAST):
        x = rng.normal(size=(300, 1)) * (np.nan if week >= 6 else 1)
        found.take(2, (rng.permutation(300), x), week)
    assert found.found[2].window == 6 and found.found[2].now == ()


def test_a_feature_is_read_alike_in_any_block(tmp_path):
    nan = np.nan
    log = tmp_path / "log.csv"
    log.write_bytes(b"time,prediction,label,feature_a\n")
    columns = records.read_header(log, ("x", "y"))
    lines = [b"1704067200,x,y,True\n", b"1704067200,x,y,2\n", b"1704067200,x,y,\n"]
    for content, wanted in zip(
        [*lines, b"".join(lines)], [[[nan]], [[2]], [[nan]], [[nan], [2], [nan]]], strict=True
    ):
        found = records.parse(content, columns).features
        assert found is not None
        np.testing.assert_array_equal(found, wanted)
