"""Logs line by line: what is read, what is left out and counted, and which rows are of one case."""

import numpy as np
import pytest

import ssm
from ssm.practice.watching import cases, records
from ssm.practice.watching.cases import Cases

BOTH = b"time,id,p_a,p_b,prediction,label\n"


def header(tmp_path, line, classes=None):
    path = tmp_path / "log.csv"
    path.write_bytes(line)
    return records.read_header(path, classes)


@pytest.fixture
def columns(tmp_path):
    return header(tmp_path, BOTH)


def wrong(rows):
    return dict(zip(records.UNREADABLE, rows.unreadable.tolist(), strict=True))


def test_usable_rows_in_all_ways_to_write_them(columns):
    """A day, a time with a zone, Unix seconds, quotes, and lines that end as on Windows."""
    rows = records.parse(
        b"2024-01-01,1,0.3,0.7,a,b\n"
        b"2024-01-01T10:00:00+02:00,2,3e-1,0.7,,\r\n\n"
        b'1704067200.5,"3",0.299,0.7,"b", a\n',
        columns,
    )
    begin = 1704067200.0  # `date -ud 2024-01-01 +%s`
    assert rows.time.tolist() == [begin, begin + 8 * 3600, begin + 0.5]
    assert rows.prediction.tolist() == [0, -1, 1] and rows.label.tolist() == [1, -1, 0]
    assert rows.probabilities is not None
    np.testing.assert_allclose(rows.probabilities.sum(1), 1, rtol=1e-15)
    assert len(set(rows.key.tolist())) == 3 and not rows.unreadable.any()


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("line", b"2024-01-01,1,0.3,0.7,a"),
        ("line", b"2024-01-01,1,0.3,0.7,a,b,"),
        ("line", b'"2024-01-01,1,0.3,0.7,a,b'),
        ("line", b'2024-01-01,1"2,0.3,0.7,a,"b'),
        ("line", b'2024-01-01,""1,"0.3,0.7,a,b'),
        ("line", b"\xff\xfe\x00"),
        ("id", b"2024-01-01,,0.3,0.7,a,b"),
        ("time", b",1,0.3,0.7,a,b"),
        ("time", b"2024-13-01,1,0.3,0.7,a,b"),
        ("time", b"soon,1,0.3,0.7,a,b"),
        ("time", b"99999999999999999999,1,0.3,0.7,a,b"),
        ("probabilities", b"2024-01-01,1,0.3,0.8,a,b"),
        ("probabilities", b"2024-01-01,1,0.3,,a,b"),
        ("probabilities", b"2024-01-01,1,nan,0.7,a,b"),
        ("probabilities", b"2024-01-01,1,-0.3,1.3,a,b"),
        ("probabilities", b"2024-01-01,1,0.3x,0.7,a,b"),
        ("prediction", b"2024-01-01,1,0.3,0.7,c,b"),
        ("label", b"2024-01-01,1,0.3,0.7,a,c"),
    ],
)
def test_a_row_that_cannot_be_used_is_counted_and_costs_no_other(columns, kind, line):
    good = b"2024-01-01,7,0.3,0.7,a,b\n"
    for content in (good + line + b"\n" + good, line + b"\r\n" + good + good, good + good + line):
        rows = records.parse(content, columns)
        assert wrong(rows) == dict.fromkeys(records.UNREADABLE, 0) | {kind: 1}
        assert rows.label.tolist() == [1, 1]


def test_any_bytes_can_be_read(columns):
    rng = np.random.default_rng(0)
    for _ in range(50):
        content = bytes(rng.choice(list(b'2024-01-01,a.5"\n\r\x00\xff;'), size=400).tolist())
        rows = records.parse(content, columns)
        num_lines = sum(bool(x.strip()) for x in content.replace(b"\0", b"?").split(b"\n"))
        assert len(rows.time) + rows.unreadable.sum() == num_lines


@pytest.mark.parametrize(
    ("line", "classes", "what"),
    [
        (b"time,prediction\n", "ab", "label"),
        (b"day,prediction,label\n", "ab", "time"),
        (b"time,label\n", "ab", "prediction"),
        (b"time,prediction,label\n", None, "classes"),
        (b"time,p_a,label\n", None, "classes"),
        (b"time,p_a,p_b,label\n", "abc", "p_c"),
        (b"time,p_a,p_b,p_c,label\n", "ab", "without p_c"),
        (b"time,time,prediction,label\n", "ab", "different"),
        (b"time,prediction,label", "ab", "first line"),
        (b"", None, "first line"),
        (b"\xff\xfe\n", None, "UTF-8"),
    ],
)
def test_a_header_that_will_not_do_is_refused_in_one_line(tmp_path, line, classes, what):
    with pytest.raises(ssm.InputError, match=what) as error:
        header(tmp_path, line, classes)
    assert "\n" not in str(error.value)


def test_cases_are_told_apart_as_a_dict_would(tmp_path):
    """Random blocks, with repetitions within and between them, go through files of every length."""
    rng, path = np.random.default_rng(0), tmp_path / "cases"
    known, ours = {}, Cases()
    for block in range(40):
        m = int(rng.integers(0, 150))
        key, label = rng.integers(0, 800, m).astype(np.uint64), rng.integers(-1, 3, m)
        before = ours.count
        kinds, added = ours.sorted_out(key, label)
        for i in range(m):
            new, old = int(key[i]) not in known, known.get(int(key[i]), -1)
            brings = old == -1 and label[i] != -1
            conflicts = label[i] != -1 and old not in (-1, label[i])
            assert (kinds.new[i], kinds.labels[i], kinds.conflicting[i]) == (new, brings, conflicts)
            known[int(key[i])] = label[i] if brings else old
        Cases.append(path, before, added)
        if block % 7 == 3:  # a kill: what was written after the last state does not count
            path.write_bytes(path.read_bytes() + b"half an ent")
            ours = Cases.read(path, ours.count)
    assert sum(len(keys) for keys, _ in ours._runs) == len(known) > 700
    assert path.stat().st_size == ours.count * cases.ENTRY.itemsize
