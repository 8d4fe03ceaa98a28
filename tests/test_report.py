"""The report of a study: whole, self-contained, escaped, the same each time, and honest."""

import html.parser
import re

import numpy as np
import pandas as pd
import pytest
from study_record import CLASSES, STRATEGIES, make_record

from ssm import plotting
from ssm.practice import report, study_plots, study_tables, study_words

SECTIONS = ["studied", "summary", "minimum", "scores", "classes", "differences", "calibration"]
SECTIONS += ["ablations", "sensitivity", "training", "alarms", "reading", "provenance"]
VOID = {"meta", "img", "br", "link"}


class Reader(html.parser.HTMLParser):
    """Tags in order, each closed, and the text of the body."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def low_resolution():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(plotting._STYLE, "savefig.dpi", 30)
        yield


@pytest.fixture(scope="module")
def record():
    return make_record()


@pytest.fixture(scope="module")
def findings(record):
    return study_tables.find(record)


@pytest.fixture(scope="module")
def written(record, low_resolution, tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    path = report.write_report(record, out)
    assert path == out / "report.html"
    return out


@pytest.fixture(scope="module")
def page(written):
    return Reader((written / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def quick(monkeypatch, findings, low_resolution):
    """For tests of what is neither drawn nor found: one figure, and what was found before."""
    monkeypatch.setattr(study_plots, "KINDS", {"recalls": study_plots.plot_recalls})
    monkeypatch.setattr(study_tables, "find", lambda record: findings)


def test_everything_is_in_one_file(written, page):
    tags = [tag for tag, _ in page.tags]
    assert not {"script", "link", "iframe", "object"} & set(tags)
    pictures = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == len(study_plots.KINDS)
    assert all(source.startswith("data:image/png;base64,") for source in pictures)
    source = (written / "report.html").read_text(encoding="utf-8")
    assert "http:" not in source and "https:" not in source and "url(" not in source
    assert all(attrs["alt"] for tag, attrs in page.tags if tag == "img")
    drawn = {path.stem for path in (written / "figures").iterdir()}
    assert drawn == set(study_plots.KINDS)
    names = {path.name for path in written.iterdir()}  # nothing is left of what was being written
    assert names == {"report.html", "figures", "comparisons.csv", "ablations.csv"}


def test_sections_are_in_order(page):
    assert [attrs["id"] for tag, attrs in page.tags if tag == "section"] == SECTIONS
    anchors = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert anchors == [f"#{name}" for name in SECTIONS]


def test_names_of_users_are_escaped(written, page):
    source = (written / "report.html").read_text(encoding="utf-8")
    assert "<script" not in source and "<b>" not in source
    for name in (*CLASSES, "<b>data</b>"):
        assert name in page.text


def test_no_number_reads_as_a_computer_would_write_it(page):
    assert not re.search(r"\b(nan|inf|None|True|False|NaN)\b", page.text)


def test_the_same_record_makes_the_same_bytes(record, quick, tmp_path):
    for name in ("a", "b"):
        report.write_report(record, tmp_path / name)
    for path in (tmp_path / "a").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_a_report_that_fails_leaves_the_last_one_whole(record, quick, tmp_path, monkeypatch):
    path = report.write_report(record, tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr(report, "_context", lambda *_: {})
    with pytest.raises(Exception, match="undefined"):
        report.write_report(record, tmp_path)
    assert path.read_bytes() == before


def test_tables_beside_the_report_hold_all_comparisons(record, written):
    table = pd.read_csv(written / "comparisons.csv")
    assert len(table) == len(study_tables.FAMILY) * (len(STRATEGIES) - 1)
    for row in table.itertuples():
        scores = record[row.metric].sel(correction="none")
        paired = scores.sel(variant=row.variant) - scores.sel(variant=row.reference)
        np.testing.assert_allclose(row.difference, float(paired.mean()), atol=1e-15)
    ablations = pd.read_csv(written / "ablations.csv")
    assert ablations[["factor", "setting"]].drop_duplicates().values.tolist() == [
        ["weights", "alone"],
        ["post-hoc", "alone"],
        ["weights", "combined"],
        ["post-hoc", "combined"],
    ]


def test_only_what_is_significant_is_said_to_change(record, findings):
    summary = study_words.summarise(record, findings)
    assert summary.short == (
        "In short: inverse does significantly better than erm in balanced accuracy or worst-class "
        "recall; inverse significantly worse in calibration."
    )
    (name, gains), (same, nothing) = summary.trades
    assert (name, same, nothing) == ("inverse", "drw", "the same as erm in every fold.")
    claims, _, undecided = gains.partition(". Not significant: ")
    assert re.match(
        r"raises worst-class recall by 0\.(199|200|201) \[0\.\d{3},\s0\.\d{3}\], but worsens "
        r"calibration, raising its error by 0\.(099|100|101) \[",
        claims,
    )
    assert "accuracy" not in claims
    assert re.match(r"balanced accuracy 0\.000 \[0\.000,\s0\.000\] and accuracy [+−]0", undecided)  # noqa: RUF001


def test_nothing_is_claimed_where_nothing_is_significant(record):
    """Noise alone, and folds too few to tell: no words of change, and what is possible is said."""
    noise = make_record(extras=False)
    rng = np.random.default_rng(0)
    for metric in study_tables.FAMILY:
        noise[metric][:] = rng.uniform(0.4, 0.6, noise[metric].shape)
    summary = study_words.summarise(noise, study_tables.find(noise))
    words = " ".join([summary.short, *summary.overall, *sum(summary.trades, ())])
    assert not re.search(
        r"raises|lowers|improves|worsens|costs |significantly (better|worse)", words
    )
    assert "That does not show that there is none" in words
    few = make_record(seeds=1, folds=2, extras=False)
    for metric in study_tables.FAMILY:
        few[metric][1:] = few[metric][0] + 0.1
    summary = study_words.summarise(few, study_tables.find(few))
    assert dict(summary.trades) == {
        "inverse and drw": "no significant difference; there are too few folds to tell."
    }
    assert "There are too few folds for any difference to be significant." in summary.limits
    assert "[too few folds to tell]" in summary.overall[0]


def test_dropped_folds_and_failed_runs_are_counted(record):
    broken = make_record()
    broken["accuracy"][1, 0, :2, 0] = np.nan
    broken["status"] = broken["status"].astype("<U20")
    broken["status"][0, 0, 0] = "not finite"
    limits = study_words.summarise(broken, study_tables.find(broken)).limits
    assert limits[0].endswith(
        "Folds dropped for want of a finite score: 2, over all 8 comparisons."
    )
    assert "Runs whose numbers did not stay finite: 1 of 30." in limits
    assert any("The smallest class has 8 samples, about 2.7 in each" in each for each in limits)


def test_the_minimum_is_the_baselines_less_a_tolerance_or_as_asked(record, findings):
    expected = float(record["accuracy"].sel(variant="erm", correction="none").mean()) - 0.05
    assert findings.required == pytest.approx(expected, abs=1e-15)
    asked = make_record(minimum=0.9)
    found = study_tables.find(asked)
    assert found.required == 0.9 and {level.verdict for level in found.levels} == {"missed"}
    (sentence,) = [
        each for each in study_words.summarise(asked, found).overall if "Minimum" in each
    ]
    assert sentence == ("Minimum acceptable accuracy: 0.900 (asked for). Shown to miss it: all.")


def test_the_best_correction_has_the_highest_balanced_accuracy():
    record = make_record()
    assert study_tables.best_correction(record, "erm") == "training"  # all alike: the first
    record["calibration_error"].loc[{"correction": "temperature"}] -= 0.01
    assert study_tables.best_correction(record, "erm") == "temperature"
    record["balanced_accuracy"].loc[{"correction": "uniform"}] += 0.01
    assert study_tables.best_correction(record, "erm") == "uniform"


HEADER = "variant,seed,fold,step,alarm,class,value,threshold,action,reason\n"
ALARM = 'erm,0,1,50,class_drop,"<i>x</i>",0.1,0.2,warn,"recall 0.10, once 0.90"\n'


@pytest.mark.parametrize(
    ("alarms", "said"),
    [
        (None, "No list of alarms was kept"),
        (HEADER, "There were none"),
        (HEADER + ALARM, "1 alarm was raised"),
        (HEADER + 50 * ALARM, "The first 40 of them"),
    ],
    ids=["unknown", "none", "one", "many"],
)
def test_alarms_are_told_or_their_absence_is(alarms, said, record, quick, tmp_path):
    if alarms is not None:
        (tmp_path / "alarms.csv").write_text(alarms)
    page = Reader(report.write_report(record, tmp_path).read_text(encoding="utf-8"))
    assert said in page.text
    if alarms and ALARM in alarms:
        assert "<i>x</i>" in page.text and "recall 0.10, once 0.90" in page.text
        assert "1 of 6" in page.text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.12345, "0.123"),
        (-0.0004, "0.000"),
        (-0.5, "\N{MINUS SIGN}0.500"),
        (np.nan, "\N{EM DASH}"),
        (np.inf, "∞"),
    ],
)
def test_numbers_read_well(value, expected):
    assert study_words.number(value) == expected


def test_intervals_stay_where_scores_can_be():
    assert study_words.interval(-0.2, 1.3, 0, 1) == "[0.000,\N{NO-BREAK SPACE}1.000]"
    assert study_words.interval(-np.inf, np.inf) == "[too few folds to tell]"
    assert study_words.signed(0.0001) == "0.000" and study_words.signed(0.02) == "+0.020"
    assert study_words.p_value(0.0001) == "< 0.001"
    assert [study_words.listed(list("abc"[:n])) for n in (1, 2, 3)] == [
        "a",
        "a and b",
        "a, b and c",
    ]
