"""The report of a study: whole, self-contained, escaped, the same each time, and honest."""

import functools
import html.parser
import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from study_record import CLASSES, STRATEGIES, make_record

from ssm import plotting
from ssm.plots import studies
from ssm.practice.reporting import format, report, words
from ssm.practice.statistics import calibration
from ssm.practice.study import evidence

SECTIONS = [
    "verdict",
    "studied",
    "summary",
    "models",
    "minimum",
    "scores",
    "classes",
    "differences",
    "calibration",
]
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


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """Of intervals for calibration errors, on which no word here depends. The shared findings and pages have all."""
    interval = functools.partial(calibration.bootstrap_interval, num_resamples=99)
    monkeypatch.setattr(calibration, "bootstrap_interval", interval)


@pytest.fixture(scope="module")
def low_resolution():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(plotting.STYLE, "savefig.dpi", 30)
        yield


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
    monkeypatch.setattr(studies, "KINDS", {"recalls": studies.plot_recalls})
    monkeypatch.setattr(evidence, "find", lambda record: findings)


def test_everything_is_in_one_file(written, page):
    tags = [tag for tag, _ in page.tags]
    assert not {"script", "link", "iframe", "object"} & set(tags)
    pictures = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == len(studies.KINDS)
    assert all(source.startswith("data:image/png;base64,") for source in pictures)
    source = (written / "report.html").read_text(encoding="utf-8")
    assert "http:" not in source and "https:" not in source and "url(" not in source
    assert all(attrs["alt"] for tag, attrs in page.tags if tag == "img")
    drawn = {path.stem for path in (written / "figures").iterdir()}
    assert drawn == {*studies.KINDS, "summary"}
    names = {path.name for path in written.iterdir()}  # nothing is left of what was being written
    assert names == {"report.html", "summary.html", "figures", "comparisons.csv", "ablations.csv"}


def test_sections_are_in_order(page):
    assert [attrs["id"] for tag, attrs in page.tags if tag == "section"] == SECTIONS
    anchors = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert anchors == ["summary.html", *(f"#{name}" for name in SECTIONS[1:])]


def test_names_of_users_are_escaped(written, page):
    source = (written / "report.html").read_text(encoding="utf-8")
    assert "<script" not in source and "<b>" not in source
    for name in (*CLASSES, "<b>data</b>"):
        assert name in page.text
    source = (written / "summary.html").read_text(encoding="utf-8")
    assert "<script" not in source and "<b>" not in source
    for name in (*CLASSES, "<b>data</b>"):
        assert name in Reader(source).text


def test_the_summary_stands_alone_and_links_to_the_report(written):
    source = (written / "summary.html").read_text(encoding="utf-8")
    brief = Reader(source)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in brief.tags}
    assert "http:" not in source and "https:" not in source and "url(" not in source
    (picture,) = [attrs["src"] for tag, attrs in brief.tags if tag == "img"]
    assert picture.startswith("data:image/png;base64,")
    assert {attrs["href"].partition("#")[0] for tag, attrs in brief.tags if tag == "a"} == {
        "report.html"
    }
    assert not re.search(r"\b(nan|inf|None|True|False(?! alarms)|NaN|ERM)\b", brief.text)


def test_the_verdict_is_at_the_top(page):
    """Of a record of an earlier version: balanced errors of two rules."""
    for title in ("What to use", "What it buys", "What it loses", "How sure"):
        assert page.text.count(title) == 1
    assert page.text.index("What to use") < page.text.index("In short")
    assert "Compared were 6 candidates by their balanced errors in 1000 cases." in page.text
    # balanced accuracy is the same in all of them
    assert "The model network with the strategy erm" in page.text and "plain baseline" in page.text


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
    assert len(table) == len(evidence.FAMILY) * (len(STRATEGIES) - 1)
    for named in table.itertuples():
        row: Any = named  # a tuple whose fields are the columns
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


def summary_of(record):
    return words.summarise(record, evidence.find(record))


def everything(summary):
    return " ".join([summary.short, *summary.overall, *sum(summary.trades, ()), *summary.limits])


def with_differences(record, differences):
    """The strategies' scores without correction: the baseline's, and so much more or less, the same
    on all metrics that are compared."""
    for metric in evidence.FAMILY:
        for i, difference in enumerate(differences, 1):
            record[metric][i] = record[metric][0] + difference[:, :, None]
    return record


def test_only_what_is_shown_is_said_to_change(record, findings):
    summary = words.summarise(record, findings)
    assert summary.short == (
        "In short: inverse is shown to do better than erm in worst-class recall; inverse is shown to "
        "do worse in calibration error."
    )
    (name, gains), (same, nothing) = summary.trades
    assert (name, same) == ("inverse", "drw")
    assert nothing == (
        "the same as erm in every fold, but these are too few to show more than that."
    )
    claims, _, undecided = gains.partition(". Undecided: ")
    assert re.match(
        r"raises worst-class recall by 0\.(199|200|201) \[0\.\d{3},\s0\.\d{3}\], but worsens "
        r"calibration, raising its error by 0\.(099|100|101) \[",
        claims,
    )
    assert "accuracy" not in claims
    assert re.match(
        r"balanced accuracy 0\.000 \[the same in every fold\] and accuracy [+−]0",  # noqa: RUF001 (the sign of minus)
        undecided,
    )


def test_nothing_is_claimed_where_nothing_is_shown():
    """Noise alone, and folds too few to tell: no words of change, and what is possible is said."""
    noise = make_record(extras=False)
    rng = np.random.default_rng(0)
    for metric in evidence.FAMILY:
        noise[metric][:] = rng.uniform(0.4, 0.6, noise[metric].shape)
    summary = summary_of(noise)
    text = " ".join([summary.short, *summary.overall, *sum(summary.trades, ())])
    assert not re.search(
        r"raises|lowers|improves|worsens|costs |better than erm:|worse than|equivalent", text
    )
    assert "That does not mean that they are the same as erm" in text
    assert summary.short == (
        "In short: it is undecided whether any strategy does better than erm in balanced accuracy "
        "or worst-class recall; no cost in accuracy or calibration error is shown, nor is it ruled "
        "out."
    )
    few = make_record(seeds=1, folds=2, extras=False)
    summary = summary_of(with_differences(few, [np.full((1, 2), 0.1)] * 2))
    assert dict(summary.trades) == {
        "inverse and drw": "undecided on all 4 metrics; there are too few folds to tell."
    }
    assert "[too few folds to tell]" in summary.overall[0]


def test_five_folds_that_all_agree_are_undecided_and_it_is_said_why():
    """Better in 5 of 5 folds, and yet the corrected test of eight questions does not show it."""
    rng = np.random.default_rng(1)
    gains = 0.1 + 0.06 * rng.uniform(-1, 1, (2, 1, 5))
    record = with_differences(make_record(seeds=1, folds=5, extras=False), gains)
    rows = evidence.find(record).comparisons
    assert {(row.wins, row.verdict) for row in rows[:2]} == {(5, "undecided")}
    summary = summary_of(record)
    assert summary.overall[0].startswith(
        "Balanced accuracy. Undecided: inverse and drw (better in every fold, but not clearly "
        "enough: 5 folds of the same data count for fewer). The largest difference seen of these is "
    )
    assert "not shown either way" not in everything(summary).lower()
    assert "significant" not in everything(summary)


def test_what_could_not_have_been_shown_is_said_in_place_of_an_impossible_number():
    """Two folds that scatter widely: intervals reach further than scores can."""
    rng = np.random.default_rng(8)
    record = make_record(seeds=1, folds=2, extras=False)
    for metric in evidence.FAMILY:
        record[metric][:] = rng.uniform(0.1, 0.9, record[metric].shape)
    findings = evidence.find(record)
    for metric in evidence.FAMILY:
        rows = [row for row in findings.comparisons if row.metric == metric]
        half = np.median([row.simultaneous_high - row.simultaneous_low for row in rows]) / 2
        assert half > max(map(abs, rows[0].room))
    summary = words.summarise(record, findings)
    assert summary.short == (
        "In short: everything is undecided. With these folds no gain over erm could have been shown, "
        "however large."
    )
    blind = "In balanced accuracy, worst-class recall, accuracy and calibration error no gain "
    assert any(each.startswith(blind + "could have been shown, h") for each in summary.limits)
    assert "had to be about" not in everything(summary)


@pytest.mark.parametrize("scale", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("folds", [2, 5])
def test_no_sentence_has_a_number_that_cannot_be(scale, folds):
    """Differences stay within what the baseline's mean leaves room for."""
    rng = np.random.default_rng(3)
    record = make_record(seeds=1, folds=folds, extras=False)
    for metric in evidence.FAMILY:
        shape = record[metric].shape
        record[metric][:] = np.clip(0.8 + scale * rng.standard_normal(shape), 0, 1)
    findings = evidence.find(record)
    summary = words.summarise(record, findings)
    text = everything(summary).replace("\N{MINUS SIGN}", "-")
    numbers = [float(each) for each in re.findall(r"-?\d+\.\d{3}", text)]
    assert numbers and max(map(abs, numbers)) <= 1
    highest = max(row.room[1] for row in findings.comparisons)
    upper = [float(each) for each in re.findall(r"-?\d+\.\d{3}(?=\])", text)]
    assert upper and max(upper) <= round(highest, 3)
    room = max(abs(end) for row in findings.comparisons for end in row.room)
    needed = re.findall(r"(\d+\.\d{3}) of", text.partition("had to be about")[2])
    assert max(map(float, needed), default=0) <= room


@pytest.mark.parametrize("seeds", [1, 3])
def test_strategies_that_are_the_same_in_every_fold(seeds):
    """Fifteen such folds show that they are equivalent, five do not."""
    nothing = np.zeros((2, seeds, 5))
    summary = summary_of(with_differences(make_record(seeds=seeds, folds=5, extras=False), nothing))
    ((names, sentence),) = summary.trades
    assert names == "inverse and drw"
    if seeds == 3:
        assert sentence == "the same as erm in every fold."
        assert summary.overall[0] == (
            "Balanced accuracy. Equivalent to erm within 0.05: inverse and drw."
        )
        assert summary.short == (
            "In short: no strategy does better than erm by as much as 0.05 of balanced accuracy or "
            "worst-class recall; none costs as much as 0.05 of accuracy or calibration error."
        )
    else:
        assert "too few to show more" in sentence
        assert "(the same in every fold, but not clearly enough: 5 folds" in summary.overall[0]
    assert "had to be about" not in everything(summary)


def test_a_small_difference_that_is_shown_is_said_to_be_small():
    rng = np.random.default_rng(4)
    gains = [0.01 + 0.001 * rng.standard_normal((3, 5)), 0.002 * rng.standard_normal((3, 5))]
    summary = summary_of(with_differences(make_record(seeds=3, folds=5, extras=False), gains))
    (_, inverse), (_, drw) = summary.trades
    assert re.match(
        r"raises balanced accuracy by 0\.01\d \[0\.0\d\d,\s0\.0\d\d\] \(less than", inverse
    )
    assert drw == (
        "equivalent within 0.05: balanced accuracy, worst-class recall, accuracy and calibration "
        "error."
    )


def test_dropped_folds_and_failed_runs_are_counted(record):
    broken = make_record()
    broken["accuracy"][1, 0, :2, 0] = np.nan
    broken["status"] = broken["status"].astype("<U20")
    broken["status"][0, 0, 0] = "not finite"
    limits = words.summarise(broken, evidence.find(broken)).limits
    assert limits[0].endswith(
        "Folds dropped for want of a finite score: 2, over all 8 comparisons."
    )
    assert "Runs whose numbers did not stay finite: 1 of 30." in limits
    assert any("The smallest class has 8 samples, about 2.7 in each" in each for each in limits)


def test_the_minimum_is_a_loss_beside_the_baseline_and_what_is_asked_for():
    rng = np.random.default_rng(6)
    effects = [-0.2 + 0.01 * rng.standard_normal((3, 5)), 0.01 * rng.standard_normal((3, 5))]
    record = with_differences(make_record(seeds=3, folds=5, extras=False), effects)
    findings_of_record = evidence.find(record)
    assert {row.variant: row.verdict for row in findings_of_record.acceptable} == {
        "inverse": "missed",
        "drw": "kept",
    }
    minimum, *more = [each for each in summary_of(record).overall if "inimum" in each]
    assert minimum == (
        "Minimum: a loss of balanced accuracy beside erm of less than 0.05. Shown to keep it: drw. "
        "Shown to miss it: inverse."
    )
    assert more[0].startswith("Of erm and the strategies shown to keep the minimum, the highest")
    assert "inverse" not in more[0]
    wide = make_record(seeds=3, folds=5, extras=False, margin=0.3)
    findings_of_record = evidence.find(with_differences(wide, effects))
    assert {row.verdict for row in findings_of_record.acceptable} == {
        "kept"
    } and findings_of_record.margin == 0.3
    asked = with_differences(make_record(seeds=3, folds=5, extras=False, minimum=0.9), effects)
    (sentence,) = [each for each in summary_of(asked).overall if "asked for" in each]
    assert sentence == (
        "Least balanced accuracy asked for: 0.900. Shown to miss it: erm, inverse and drw."
    )
    assert not [each for each in summary_of(asked).overall if "highest mean" in each]


def test_an_undecided_minimum_says_so():
    rng = np.random.default_rng(7)
    gains = 0.05 + 0.15 * rng.uniform(-1, 1, (2, 1, 5))
    gains[0] = 0.2 + np.linspace(-0.19, 0.19, 5)
    record = with_differences(make_record(seeds=1, folds=5, extras=False), gains)
    minimum = next(each for each in summary_of(record).overall if each.startswith("Minimum"))
    assert minimum == (
        "Minimum: a loss of balanced accuracy beside erm of less than 0.05. Undecided: inverse and "
        "drw (inverse better in every fold, but not clearly enough: 5 folds of the same data count for fewer)."
    )


def test_networks_that_were_hardly_trained_are_counted(record, findings):
    """Those of the first of several evaluations, and untrained ones."""
    assert [row.num_first + row.num_untrained for row in findings.stopping] == [0, 0, 0]
    limits = words.summarise(record, findings).limits
    assert not [each for each in limits if " runs of " in each]
    early = make_record()
    early["best_step"][0, :, :2] = 50
    early["best_step"][1, 0, 0] = 50  # a run of that one evaluation
    early["stop_step"][1, 0, 0] = 50
    early["best_step"][2, 0, 0] = 0
    findings_of_record = evidence.find(early).stopping
    assert [(row.num_first, row.num_untrained, row.num_runs) for row in findings_of_record] == [
        (4, 0, 6),
        (0, 0, 6),
        (0, 1, 6),
    ]
    assert (findings_of_record[0].kept, findings_of_record[0].passes) == ((50, 50, 100), 5)
    first, untrained, unweighted = [
        each for each in summary_of(early).limits if " runs of " in each
    ]
    assert first.startswith(
        "In 4 of 6 runs of erm training was ended at the first evaluation, after 50 steps, since"
    )
    assert untrained.startswith("In 1 of 6 runs of drw the network is the untrained one")
    assert unweighted.startswith("In 1 of 6 runs of drw training ended before class weights began")


def test_the_minoritys_probability_has_a_table_of_its_own(record, findings, page):
    """The mean probability of the rare class beside its share, 8 of 68."""
    assert "where the share is 0.118" in page.text
    for one in findings.minority:
        rows = evidence.probabilities(record, one.variant, one.correction)
        assert one.mean == pytest.approx(rows[:, 2].mean(), rel=1e-12)
        assert f"{one.mean:.3f}" in page.text and f"{one.reliability.error:.3f}" in page.text
    alike = evidence.find(make_record(counts=[20, 20, 20], extras=False))
    assert alike.minority == ()


def test_the_data_are_described_by_notes_and_options_in_words(record, quick, tmp_path):
    noted, study = record.copy(), json.loads(record.attrs["study"])
    study |= {"notes": ["Column <i>c</i> is text."], "num_steps": None, "num_steps_used": 1200}
    noted.attrs = record.attrs | {"study": json.dumps(study)}
    page = Reader(report.write_report(noted, tmp_path).read_text(encoding="utf-8"))
    assert "How the data were read: Column <i>c</i> is text." in page.text
    assert "num_steps left out (1200, by the size of the data)" in page.text
    assert "num_steps_used" not in page.text and "notes" not in page.text
    assert "hidden_layer_sizes 64, 32" in page.text and "ablations yes" in page.text
    plain = Reader(report.write_report(record, tmp_path).read_text(encoding="utf-8"))
    assert "How the data were read" not in plain.text


def test_the_best_correction_has_the_highest_balanced_accuracy():
    record = make_record()
    assert evidence.best_correction(record, "erm") == "training"  # all alike: the first
    record["calibration_error"].loc[{"correction": "temperature"}] -= 0.01
    assert evidence.best_correction(record, "erm") == "temperature"
    record["balanced_accuracy"].loc[{"correction": "uniform"}] += 0.01
    assert evidence.best_correction(record, "erm") == "uniform"


HEADER = "variant,seed,fold,step,alarm,class,value,threshold,action,reason\n"
ALARM = 'erm,0,1,50,class_drop,"<i>x</i>",0.1,0.2,warn,"recall 0.10, once 0.90"\n'


@pytest.mark.parametrize(
    ("alarms", "expected_text"),
    [
        (None, "No list of alarms was kept"),
        (HEADER, "There were none"),
        pytest.param(HEADER + ALARM, "1 alarm was raised", marks=pytest.mark.slow),
        (HEADER + 50 * ALARM, "The first 40 of them"),
    ],
    ids=["unknown", "none", "one", "many"],
)
def test_alarms_are_told_or_their_absence_is(alarms, expected_text, record, quick, tmp_path):
    if alarms is not None:
        (tmp_path / "alarms.csv").write_text(alarms)
    page = Reader(report.write_report(record, tmp_path).read_text(encoding="utf-8"))
    assert expected_text in page.text
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
    assert format.number(value) == expected


def test_intervals_stay_where_scores_can_be():
    assert format.interval(-0.2, 1.3, 0, 1) == "[0.000,\N{NO-BREAK SPACE}1.000]"
    assert format.interval(-np.inf, np.inf) == "[too few folds to tell]"
    assert format.signed(0.0001) == "0.000" and words.signed(0.02) == "+0.020"
    assert format.p_value(0.0001) == "< 0.001"
    assert [format.listed(list("abc"[:n])) for n in (1, 2, 3)] == [
        "a",
        "a and b",
        "a, b and c",
    ]


def test_a_class_in_the_verdict_is_inert(low_resolution, monkeypatch, tmp_path):
    """The name of the class that alarms are for stands in sentences and tables."""
    monkeypatch.setattr(studies, "KINDS", {"recalls": studies.plot_recalls})
    record = make_record(extras=False)
    recalls = record["balanced_accuracy"].sel(correction="none", drop=True)
    record["recall_at_budget"] = recalls.copy()
    record["alarm_share"] = recalls.copy()
    currency = {"costs": None, "budget": 0.1, "alarm_class": 0}
    record = record.assign_attrs(currency=json.dumps(currency))
    source = report.write_report(record, tmp_path).read_text(encoding="utf-8")
    assert "<script" not in source
    assert f"recall of {CLASSES[0]} with alarms for 10 % of the cases" in Reader(source).text
    brief = (tmp_path / "summary.html").read_text(encoding="utf-8")
    assert "<script" not in brief
    assert f"most probably {CLASSES[0]}, by lot" in Reader(brief).text
