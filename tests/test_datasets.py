"""A study's data: what is read, what is refused in one line, and how classes are thinned out."""

import dataclasses
import gzip
import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.datasets

from ssm.practice.data import tables
from ssm.practice.data.datasets import Data, check_folds, imbalanced, load
from ssm.practice.options import StudyOptions
from ssm.practice.study import plans
from ssm.support.errors import InputError


@pytest.fixture
def write(tmp_path):
    """A file of the given text, bytes or arrays."""

    def make(content, name="users.csv"):
        path = tmp_path / name
        if isinstance(content, dict):
            np.savez(path, **content)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


def refused(*args, **options):
    """The one line that it was refused with."""
    with pytest.raises(InputError) as caught:
        load(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "=" in message
    assert ": must be " in message
    return message


def of_counts(counts):
    """Data with a distinct feature for each sample, its classes interleaved."""
    labels = np.random.default_rng(5).permutation(np.repeat(np.arange(len(counts)), counts))
    features = np.arange(float(len(labels)))[:, None]
    return Data(
        "made", features, labels, tuple(map("class {}".format, range(len(counts)))), ("x",), None
    )


# what is read


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "wine"])
def test_built_in_data(name):
    features, labels = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    data = load(name)
    np.testing.assert_array_equal(data.features, features)
    np.testing.assert_array_equal(data.labels, labels)
    assert data.features.dtype == np.float64
    assert len(data.class_names) == len(np.unique(labels))
    assert len(data.feature_names) == features.shape[1]
    assert data.image_shape == ((8, 8) if name == "digits" else None)
    assert not data.has_missing
    assert data.name == name
    assert data.notes == ()


def test_a_csv_with_a_column_of_strings(write):
    """In any column; blanks, quotes, a byte-order mark and trailing commas are no part of it."""
    text = '\ufeffage, "kind" ,weight\r\n1, b ,2.5,\r\n\r\n3,"a",-4e1,\r\n5,b,6\r\n'
    data = load(write(text), label="kind")
    np.testing.assert_array_equal(data.features, [[1, 2.5], [3, -40], [5, 6]])
    np.testing.assert_array_equal(data.labels, [1, 0, 1])
    assert data.class_names == ("a", "b")
    assert data.feature_names == ("age", "weight")
    assert data.name == "users"
    np.testing.assert_array_equal(data.counts, [1, 2])


@pytest.mark.parametrize(
    ("written", "names"),
    [
        (["10", "9", "10", "2"], ("2", "9", "10")),
        (["1.0", "2.0", "1", "2"], ("1", "1.0", "2", "2.0")),
        (["01", "1", "2", "01"], ("01", "1", "2")),
        (["1E2", "100", "10", "1E2"], ("10", "100", "1E2")),
        (["-", "None", "-", "."], ("-", ".", "None")),
        (["SICK", "sick", "well", "sick "], ("SICK", "sick", "well")),
        (["0.5", "1.5", "0.5", "1.5"], ("0.5", "1.5")),
        (["-1", "1", "1", "-1"], ("-1", "1")),
        (["9007199254740993", "9007199254740992", "1", "1"], ("1", "9007199254740992", "9007199254740993")),
        (["True", "False", "True", "True"], ("False", "True")),
        (["None", "mild", "None", "3"], ("3", "None", "mild")),
    ],
)  # fmt: skip
def test_labels_of_any_type(write, written, names):
    rows = "".join(f"{i},{name}\n" for i, name in enumerate(written))
    data = load(write("x,label\n" + rows))
    assert data.class_names == names
    same = [
        data.class_names[c] == name.strip() for c, name in zip(data.labels, written, strict=True)
    ]
    assert all(same)


def test_booleans_constants_and_huge_integers_are_features(write):
    data = load(
        write("flag,same,big,label\nTrue,7,1,a\nFalse,7,123456789012345678901234567890,b\n")
    )
    np.testing.assert_array_equal(
        data.features, [[1, 7, 1], [0, 7, 123456789012345678901234567890.0]]
    )


def test_npz_is_what_was_saved(write, rng):
    features = rng.random((6, 3)).astype(np.float32)
    data = load(write({"features": features, "labels": np.array(list("baabba"))}, "users.npz"))
    np.testing.assert_array_equal(data.features, features)
    np.testing.assert_array_equal(data.labels, [1, 0, 0, 1, 1, 0])
    assert (data.class_names, data.image_shape) == (("a", "b"), None)
    assert data.features.dtype == np.float64


def test_npz_of_images_is_flattened(write, rng):
    images = rng.integers(0, 255, (4, 2, 3), dtype=np.uint8)
    data = load(
        write({"features": images, "labels": np.array([3.0, 5.0, 3.0, 5.0])}, "users.NPZ.npz")
    )
    np.testing.assert_array_equal(data.features.reshape(4, 2, 3), images)
    assert (data.image_shape, data.class_names) == ((2, 3), ("3", "5"))


def test_csv_and_npz_of_the_same_data_agree(write, rng):
    features, labels = rng.normal(size=(20, 3)), rng.integers(0, 3, 20)
    table = pd.DataFrame(features, columns=list("abc")).assign(label=labels)
    from_csv = load(write(table.to_csv(index=False)))
    from_npz = load(str(write({"features": features, "labels": labels}, "users.npz")))
    # 17 digits, read back to within an ulp
    np.testing.assert_allclose(from_csv.features, from_npz.features, rtol=1e-15)
    np.testing.assert_array_equal(from_csv.labels, from_npz.labels)
    assert from_csv.class_names == from_npz.class_names == ("0", "1", "2")


GAPS = "a,b,label\n1,,x\ninf,2,y\n3,NA,x\n-1e200,5,y\n"


def test_missing_features_are_left_for_the_folds(write):
    """Nothing is imputed here: infinite and missing alike are NaN, if asked for."""
    data = load(write(GAPS), impute=True)
    nan = math.nan
    np.testing.assert_array_equal(data.features, [[1, nan], [nan, 2], [3, nan], [nan, 5]])
    assert data.has_missing
    assert not load("wine", impute=True).has_missing


# what is refused


def test_missing_and_infinite_features_are_refused_by_column(write):
    message = refused(write(GAPS))
    assert message.startswith(
        "column 'a'='0 missing and 2 infinite of 4 entries (and 1 more column"
    )
    message = refused(write("a,b,label\n1,,x\n2,2,y\n"))
    assert message.startswith("column 'b'='1 missing and 0 infinite of 2 entries'")
    assert "--impute fills numbers in with the median of each training part" in message
    assert "missing texts a category of their own, 'missing'" in message


@pytest.mark.parametrize("impute", [False, True])
@pytest.mark.parametrize("entries", [["", ""], ["inf", "nan"]])
def test_a_column_without_a_number_is_refused_either_way(write, entries, impute):
    message = refused(write("a,b,label\n1,{},x\n2,{},y\n".format(*entries)), impute=impute)
    assert message.startswith("features=")
    assert "'b'" in message


@pytest.mark.parametrize("name", ["absent.csv", "absent.npz", "digit"])
def test_a_file_that_is_not_there(tmp_path, name):
    message = refused(tmp_path / name)
    assert message.startswith("data=")
    assert "digits, breast_cancer, wine, or a file that exists" in message


@pytest.mark.parametrize(
    ("name", "content", "message_part"),
    [
        ("users.data", "a,label\n1,x\n2,y\n", "ends in .csv, .tsv or .txt (also with .gz after it) or .npz"),
        ("users.npz.gz", "a,label\n1,x\n2,y\n", "ends in .csv, .tsv"),
        ("users.csv", "", "not empty"),
        ("users.csv.gz", gzip.compress(b"", mtime=0), "not empty"),
        ("users.npz", "", "not empty"),
        ("users.csv", "\n  \n\n", "not empty"),
        ("users.csv", "a,label\n", "rows below its header"),
        ("users.csv", "a,label\n\n\n", "rows below its header"),
        ("users.csv", b"PK\x03\x04\xff\xfe\x00\xd8", "text, not binary"),
        ("users.csv", "a,label\n1,x\n".encode("utf-16-le"), "text, not binary"),
        ("users.csv", "a,label\n1,x\n".encode("utf-16")[:-1], "text in utf-16-le"),
        ("users.csv", b"\xef\xbb\xbfa,label\n1,\xe9\n", "text in utf-8"),
        ("users.csv.gz", "a,label\n1,x\n", "can be read (BadGzipFile)"),
        ("users.csv.gz", gzip.compress(b"a,label\n1,x\n2,y\n", mtime=0)[:-9], "can be read (EOFError)"),
        ("users.csv", "a,label\n1,x\n" * 9 + "1,2,3\n", "2 entries in each row, between ',' (Expected 2 fields"),
        ("users.csv", "a,label\n1,x,3\n1,y,4\n", "2 entries in each row"),
        ("users.csv", "a,label\n1,x,\n1,y,4\n", "2 entries in each row"),
        ("users.csv", 'a,label\n1,"x\n1,y\n', "2 entries in each row"),
        ("users.csv", "label\nx\ny\n", "features beside the column 'label'"),
        ("users.csv", "5.1,3.5,1\n4.9,3.0,0\n", "only numbers ('5.1', '3.5', '1'): add a row of names"),
        ("users.csv", "a,b,a,label\n0,1,2,x\n1,2,3,y\n", "not twice: 'a'"),
        ("users.csv", "a,label,label\n0,x,x\n1,y,y\n", "not twice: 'label'"),
        ("users.csv", "a" * 200_000 + ",label\n1,x\n2,y\n", "a table with a header row"),
        ("users.npz", "a,label\n1,x\n", "readable NPZ"),
    ],
)  # fmt: skip
def test_files_of_another_shape(write, name, content, message_part):
    message = refused(write(content, name))
    assert message.startswith("data=")
    assert message_part in message


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for path in (tmp_path, tmp_path / "folder.csv"):
        assert "a file that ends in .csv" in refused(path)


def test_a_first_row_of_data_is_no_header(write):
    """Not even where the label is among its numbers; but pandas numbers columns that have no names."""
    message = refused(write("5,1;3,5;1\n4,9;3,0;0\n"), label="1", sep=";", decimal=",")
    assert "users.csv" in message and "('5,1', '3,5', '1')" in message
    data = load(write("0,1,2\n5.1,3.5,a\n4.9,3.0,b\n"), label="2")
    assert data.feature_names == ("0", "1") and data.class_names == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message_part"),
    [
        ("a,b,kind\n1,2,x\n", "of those in the header row: 'a', 'b', 'kind'"),
        ("1,2,x\n3,4,y\n", "of those in the header row: '1', '2', 'x'"),
        ("a^b^label\n1^2^x\n", "'a^b^label'; --sep says what separates entries"),
        ("a,b, Label\n1,2,x\n", "'Label'; did you mean 'Label'?"),
        ("a;b;LA BEL\n1;2;x\n", "'a', 'b', 'LA BEL'; did you mean 'LA BEL'?"),
        ("Export of May\n\na;b;label\n1;2;x\n", "'Export of May'; delete the lines above line 3"),
        ("Export of May\nby A. User\na,b,label\n1,2,x\n", "above line 3"),
        (",".join(f"column{i}" for i in range(500)) + "\n", "'column7', ... (500 in all)"),
    ],
)
def test_no_label_column(write, text, message_part):
    message = refused(write(text))
    assert message.startswith("label='label': must be a column, of those in the header row: ")
    assert message_part in message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("rows", "message_part"),
    [
        ("1,x\n2,x\n", "label='x in every row': must be of at least two classes"),
        ("1,x\n", "label='x in every row'"),
        ("1,x\n2,?\n3,y\n", "label='1 missing, the first in data row 2'"),
        ("1,x\n2,\n3,NA\n", "label='2 missing, the first in data row 2'"),
        ("1,\n2,\n", "label='2 missing"),
        ("1,inf\n2,1\n3,2\n", "label='1 missing, the first in data row 1'"),
        ("1,x\n2\n", "label='1 missing, the first in data row 2'"),
        ("1,0.5\n2,1.5\n3,2.25\n4,0.5\n", "label='3 different numbers in 4 rows': must be classes"),
    ],
)
def test_labels_that_are_no_classes(write, rows, message_part):
    assert refused(write("a,label\n" + rows)).startswith(message_part)


@pytest.mark.parametrize("entry", ["cm", "1_000", "True", "<3", "5 kg"])
def test_few_texts_among_numbers_are_mistakes(write, entry):
    """One, or one in twenty; more are categories."""
    message = refused(write(f"a,label\n1,x\n{entry},y\n"))
    assert message.startswith(f"column 'a'={entry!r}: must be a number (data row 2, and 0 more")
    assert "leave out the column (--exclude 'a')" in message
    for wrong in (5, 6):
        rows = "".join(f"{entry if i < wrong else i % 7},{'xy'[i % 2]}\n" for i in range(100))
        path = write("a,label\n" + rows)
        if wrong == 5:
            assert "(data row 1, and 4 more rows), as most of the column are" in refused(path)
        else:
            texts = sorted([*map(str, range(7)), entry])
            assert load(path).feature_names == tuple(f"a={text}" for text in texts)


def test_numbers_with_another_decimal_sign_are_told_from_texts(write):
    for text in ('a,label\n1,x\n"1,5",y\n', "a;label\n1,5;x\n2,5;y\n-1e3;x\n"):
        assert "'1,5': must be a number (data row " in (message := refused(write(text)))
        assert message.endswith(", as --decimal , reads it")
    message = refused(write("a;label\n1.5;x\n2.5;y\n"), decimal=",")
    assert message.endswith(", as --decimal . reads it")
    message = refused(write('a,label\n"1,500",x\n"12,000",y\n'))
    assert message.endswith(", without signs between thousands")
    assert "--decimal" not in refused(write("a,label\n" + "1,x\n2,y\n" * 20 + "<3,x\n"))


@pytest.mark.parametrize(("names", "rows"), [(6, 11), (51, 200)])
def test_names_and_free_text_are_refused(write, names, rows):
    text = "who,label\n" + "".join(f"n{i % names},{'xy'[i % 2]}\n" for i in range(rows))
    message = refused(write(text))
    assert message.startswith(f"column 'who'=\"{names} different texts in {rows} rows, as 'n0'\"")
    assert "(--exclude 'who')" in message
    fewer = text.replace(f"n{names - 1},", "n0,")
    assert len(load(write(fewer)).feature_names) == names - 1


def test_names_of_any_kind_stay_on_one_line(write):
    long = "x" * 10_000
    message = refused(write(f'"two\nlines {long}",label\nred,x\n1,y\n'))
    assert message.startswith("column 'two\\nlines xxx")
    assert len(message) < 300
    for data in (long + ".csv", "~nosuchuser/x.csv", "nul\0.csv", ""):
        assert len(refused(data)) < 350


@pytest.mark.parametrize(
    ("arrays", "message_part"),
    [
        ({"features": np.ones((2, 2))}, "data="),
        ({"X": np.ones((2, 2)), "y": np.arange(2)}, "data="),
        ({"features": np.ones((2, 2)), "labels": np.arange(2), "weights": np.ones(2)}, "data="),
        ({"features": np.ones(2), "labels": np.arange(2)}, "features='float64 of shape (2,)'"),
        ({"features": np.ones((2, 1, 2, 2)), "labels": np.arange(2)}, "features="),
        ({"features": np.ones((0, 2)), "labels": np.arange(0)}, "features="),
        ({"features": np.ones((2, 0)), "labels": np.arange(2)}, "features="),
        ({"features": np.full((2, 2), "1"), "labels": np.arange(2)}, "features='<U1 of shape (2, 2)'"),
        ({"features": np.ones((2, 2), complex), "labels": np.arange(2)}, "features="),
        ({"features": np.ones((2, 2)), "labels": np.arange(3)}, "labels='int64 of shape (3,)'"),
        ({"features": np.ones((2, 2)), "labels": np.eye(2)}, "labels='float64 of shape (2, 2)'"),
        ({"features": np.ones((2, 2)), "labels": np.array([1, None])}, "data="),
        ({"features": np.ones((2, 2), object), "labels": np.arange(2)}, "data="),
        ({"features": np.ones((2, 2)), "labels": np.array([1, math.nan])}, "labels='1 missing"),
        ({"features": np.ones((2, 2)), "labels": np.array([1, math.inf])}, "labels='1 missing"),
        ({"features": np.ones((2, 2)), "labels": np.array(["a", ""])}, "labels='1 missing"),
        ({"features": np.ones((2, 2)), "labels": np.array([1, 1])}, "labels='1 in every row'"),
        ({"features": np.ones((2, 2)), "labels": np.array([0.1, 0.2])}, "labels='2 different"),
        ({"features": np.array([[1, math.nan], [1, 2]]), "labels": np.arange(2)}, "column 'feature 1'"),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_arrays(write, arrays, message_part):
    assert refused(write(arrays, "users.npz")).startswith(message_part)


OF_TABLES = {"label": "kind", "sep": ";", "decimal": ",", "exclude": "a"}


def test_only_a_table_has_columns(write):
    for data in ("wine", write({"features": np.eye(2), "labels": np.arange(2)}, "users.npz")):
        for name, value in OF_TABLES.items():
            assert refused(data, **{name: value}).startswith(f"{name}={value!r}: must be left out")


# files as people have them

ROWS = [[1.5, 2], [-20, 4], [3, 1]]
PLAIN = "a,b,label\n1.5,2,x\n-2e1,4,y\n3,1,x\n"


def is_plain(data):
    np.testing.assert_array_equal(data.features, ROWS)
    assert (data.feature_names, data.class_names) == (("a", "b"), ("x", "y"))
    return data.name == "users" and data.notes == ()


@pytest.mark.parametrize(
    "name", ["users.csv", "users.txt", "users.CSV", "users.csv.gz", "users.txt.GZ"]
)
@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_separators_are_found_in_the_header(write, name, mark):  # fmt: skip
    content = PLAIN.replace(",", mark).encode()
    path = write(gzip.compress(content, mtime=0) if name.lower().endswith("gz") else content, name)
    assert is_plain(load(path))
    assert is_plain(load(path, sep=mark))


def test_separators_that_are_given(write):
    assert is_plain(load(write(PLAIN.replace(",", "^")), sep="^"))
    assert is_plain(load(write(PLAIN.replace(",", " ")), sep=" "))
    tabbed = PLAIN.replace(",", "\t")
    for sep in ("tab", "\\t", "\t"):
        assert is_plain(load(write(tabbed), sep=sep))
    assert is_plain(load(write(tabbed, "users.tsv")))
    assert is_plain(load(write(gzip.compress(tabbed.encode(), mtime=0), "users.tsv.gz")))
    assert is_plain(load(write(PLAIN, "users.tsv"), sep=","))
    assert refused(write(PLAIN, "users.tsv")).endswith("'a,b,label'; --sep ',' finds it")


def test_a_separator_that_may_be_another_is_asked_for(write):
    path = write("a;b,label\n1,x\n2,y\n")
    assert (
        refused(path)
        == "sep=None: must be given (--sep) for 'users.csv': the header has ',' and ';'"
    )
    assert load(path, sep=",").feature_names == ("a;b",)
    path = write("weight (kg; dry),b,label\n1,2,x\n2,0,y\n")  # fewer columns between the others
    assert load(path).feature_names == ("weight (kg; dry)", "b")
    assert load(write('"a;b;c",label\n1,x\n2,y\n')).feature_names == ("a;b;c",)


def test_decimal_commas(write):
    text = PLAIN.replace(",", ";").replace(".", ",")
    assert is_plain(load(write(text), decimal=","))
    quoted = 'a,b,label\n"1,5",2,x\n-2e1,4,y\n3,1,x\n'  # as spreadsheets write them, too
    assert is_plain(load(write(quoted), decimal=","))
    labels = write("a;label\n1;0,5\n2;1,5\n3;2,25\n")
    assert "not a continuous target" in refused(labels, decimal=",")
    for value in (";", None, 5):
        assert refused(labels, decimal=value).endswith(": must be '.' or ','")
    for value in ("ab", "", "\n", "x", ".", '"', 5):
        assert refused(labels, sep=value).startswith(f"sep={value!r}: must be one sign")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252"])
def test_encodings(write, encoding):
    content = "größe,label\n1,é\n2,ß\n3,é\n".encode(encoding)
    data = load(write(b"\xfe\xff" + content if encoding == "utf-16-be" else content))
    assert (data.feature_names, data.class_names) == (("größe",), ("ß", "é"))
    western = ("The file 'users.csv' is not UTF-8 and was read as Windows-1252.",)
    assert data.notes == (western if encoding == "cp1252" else ())


def test_quoted_entries_may_hold_anything(write):
    data = load(write('"a,b","c\nd",label\n1,"x, ""y""\nz",k\n2,q,"m\n,"\n4,q,k\n'))
    assert data.feature_names == ("a,b", 'c\nd=x, "y"\nz')
    assert data.class_names == ("k", "m\n,")
    np.testing.assert_array_equal(data.features, [[1, 1], [2, 0], [4, 0]])


def test_text_becomes_features_of_0_and_1(write):
    """One for each category, in order, in the column's place; of two only the second."""
    rows = ["5more,F,1,a", "2,M,2,b", "4, M ,3,a", "2,F,9,b", "5more,M,8,a"]
    data = load(write("doors,sex,age,label\n" + "\n".join(rows)))
    assert data.feature_names == ("doors=2", "doors=4", "doors=5more", "sex=M", "age")
    expected = [[0, 0, 1, 0, 1], [1, 0, 0, 1, 2], [0, 1, 0, 1, 3], [1, 0, 0, 0, 9], [0, 0, 1, 1, 8]]
    np.testing.assert_array_equal(data.features, expected)
    assert data.notes == (
        "Columns of text became features of 0 and 1, one for each category (only the second where "
        "there are two): 'doors' ('2', '4', '5more'), 'sex' ('F', 'M').",
    )
    others = "\n".join(f"{row[:-1]}{name}" for row, name in zip(rows, "abbab", strict=True))
    other = load(write("doors,sex,age,label\n" + others))  # labels have no part in it
    np.testing.assert_array_equal(other.features, data.features)


NONE = ["", "?", "NA", "N/A", "n/a", "na", "nan", "NaN", "null", "NULL", "<NA>", "#N/A", " ? ", "NA "]  # fmt: skip


@pytest.mark.parametrize("entry", NONE)
def test_entries_that_stand_for_none(write, entry):
    path = write(f"a,sex,label\n1,{entry},x\n{entry},M,y\n3,F,y\n")
    assert refused(path).startswith(
        "column 'sex'='1 missing of 3 entries': must be known in every row"
    )
    message = refused(path, exclude="sex")
    assert message.startswith("column 'a'='1 missing and 0 infinite of 3 entries': must be finite")
    data = load(path, impute=True)
    assert data.feature_names == ("a", "sex=F", "sex=M", "sex=missing")
    np.testing.assert_array_equal(data.features[:, 0], [1, math.nan, 3])
    np.testing.assert_array_equal(data.features[:, 1:], [[0, 0, 1], [0, 1, 0], [1, 0, 0]])
    assert refused(write(f"a,label\n1,{entry}\n2,x\n3,y\n")).startswith(
        "label='1 missing, the first"
    )


@pytest.mark.parametrize("entry", ["-", "--", ".", "None", "none"])
def test_dashes_are_missing_among_numbers_alone(write, entry):
    path = write(f"a,test,label\n1,{entry},x\n{entry},+,y\n3,{entry},y\n")
    assert refused(path).startswith("column 'a'='1 missing")
    data = load(path, impute=True)
    np.testing.assert_array_equal(data.features[:, 0], [1, math.nan, 3])
    second = max(entry, "+")
    assert data.feature_names == ("a", f"test={second}")
    np.testing.assert_array_equal(data.features[:, 1] == 1, np.array([entry, "+", entry]) == second)


def test_true_and_false_may_be_missing(write):
    path = write("flag,huge,label\nTrue,1,x\n,123456789012345678901234567890,y\nFalse,,y\n")
    expected = [[1, 1], [math.nan, 123456789012345678901234567890.0], [0, math.nan]]
    np.testing.assert_array_equal(load(path, impute=True).features, expected)


def test_columns_are_left_out_by_name(write):
    path = write('id,"a,b",c,label\n1,2,red,x\n1,4,?,y\n2,1,z,x\n')
    data = load(path, exclude="id, c")
    assert data.feature_names == ("a,b",)
    np.testing.assert_array_equal(data.features, [[2], [4], [1]])
    assert load(path, exclude='"a,b",c').feature_names == ("id",)
    for exclude in ("ID", "c, i d"):
        assert refused(path, exclude=exclude).endswith("'id', 'a,b', 'c'; did you mean 'id'?")
    assert refused(path, exclude="label").startswith("exclude='label': must be columns of features")
    assert "features beside" in refused(path, exclude='id,c,"a,b"')


# what is told


def notes(write, text, **options):
    return " ".join(load(write(text), **options).notes)


@pytest.mark.parametrize(
    ("labels", "alike"),
    [
        (["SICK", "sick", "well", "Sick"], "'SICK' and 'Sick' and 'sick';"),
        (["a b", "ab", "c"], "'a b' and 'ab';"),
        (["01", "1", "2"], "'01' and '1';"),
        (["1E2", "100", "10", "10.0"], "'10' and '10.0', '100' and '1E2';"),
        (["1", "1.0", "unknown"], "'1' and '1.0';"),
        (["9007199254740993", "9007199254740992", "9007199254740993.0"], "'9007199254740993' and '9007199254740993.0';"),
        (["1", "10", "one"], None),
    ],
)  # fmt: skip
def test_classes_that_look_alike(write, labels, alike):
    note_text = notes(
        write, "a,label\n" + "".join(f"{i % 3},{name}\n" for i, name in enumerate(labels))
    )
    if alike is None:
        assert note_text == ""
    else:
        assert (
            f"Taken as different classes, though they look alike: {alike} if they are one"
            in note_text
        )
    npz = {"features": np.arange(len(labels))[:, None], "labels": np.array(labels)}
    assert (" ".join(load(write(npz, "users.npz")).notes)) == note_text


def table(**columns):
    names = "label", *columns
    return "\n".join(map(",".join, [names, *zip("xyxyx", *columns.values(), strict=True)]))


def test_identifiers_are_told_of(write):
    note_text = notes(
        write,
        table(
            number="12359",
            PatientID="52341",
            x_id="52342",
            acid="52341",
            t=["1", "2", "3", "4", "4"],
        ),
    )
    assert note_text == (
        "Features that are probably identifiers, whole numbers that differ in every row: 'number', "
        "'PatientID'; --exclude 'number' leaves one out."
    )
    assert notes(write, table(rising=["1", "2", "3", "4", "5.5"], falling="54321")) == ""


def test_constants_are_told_of(write):
    note_text = notes(write, table(a="77777", b="kkkkk", c="8?888", d="12112"), impute=True)
    assert "Features that have one value only: 'a', 'b=k', 'c'." in note_text
    assert note_text.endswith(
        "Entries missing in 'c (1)' of 5 rows: medians of each training part."
    )


def test_row_numbers_without_a_name_are_left_out(write):
    """As pandas writes them, once or twice, and columns that a spreadsheet adds."""
    for text in (
        ",a,label,\n{},3,x,\n{},3.5,y,\n{},3,x,\n",
        "Unnamed: 0,a,label\n{},3,x\n{},3.5,y\n{},3,x\n",
    ):
        for numbers in ((0, 1, 2), (7, 8, 9)):
            data = load(write(text.format(*numbers)))
            assert data.feature_names == ("a",)
            assert data.notes[0].startswith(
                "Columns without a name were left out, as row numbers or empty: 'Unnamed: 0'"
            )
        path = write(text.format(0, 1, 3))
        message = "column 'Unnamed: 0'='': must be named in the header row, or left out (--exclude 'Unnamed: 0')"
        assert refused(path) == message
        assert load(path, exclude="Unnamed: 0").feature_names == ("a",)


def test_what_is_told_of_many_columns_is_short(write):
    names = [f"c{i}" for i in range(300)]
    note_text = notes(write, table(**dict.fromkeys(names, "kkkkk")))
    assert "'c7' ('k'), ... (300 in all)." in note_text
    assert len(note_text) < 500


class Counted(str):
    """A name of a column that counts how often one is held against another."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        Counted.compared += 1
        return str.__eq__(self, other)


def test_the_header_is_checked_with_work_in_proportion(write, monkeypatch):
    """Each name held against all others, which once took minutes at 200,000 columns, would be two million comparisons here."""
    first_row = tables._first_row
    monkeypatch.setattr(tables, "_first_row", lambda *given: [*map(Counted, first_row(*given))])
    path = write(",".join(["a", *(f"c{i}" for i in range(2000)), "a", "label\n"]) + "1,x\n")
    Counted.compared = 0
    assert refused(path).endswith("not twice: 'a'")
    assert refused(path, label="kind").endswith("... (2003 in all)")
    # Four searches over all of the names, two in each call.
    assert 2003 < Counted.compared < 20 * 2003


# imbalance


def test_step_cuts_the_classes_that_are_small_by_nature():
    """Ties: the last labels. The others keep everything, and so do all the orders."""
    data = of_counts([70, 100, 80, 70, 70])
    cut = imbalanced(data, 10, seed=0)
    np.testing.assert_array_equal(cut.counts, [70, 100, 80, 8, 8])  # round(83.3 / 10)
    assert (np.diff(cut.features[:, 0]) > 0).all()
    index = cut.features[:, 0].astype(int)
    np.testing.assert_array_equal(data.labels[index], cut.labels)
    assert cut._replace(features=0, labels=0) == data._replace(features=0, labels=0)


def test_long_tail_follows_the_natural_order():
    cut = imbalanced(of_counts([50, 80, 60, 80]), 8, seed=0, profile="long_tailed")
    np.testing.assert_array_equal(cut.counts, [10, 80, 20, 40])  # ranks 3, 0, 2, 1


@pytest.mark.parametrize("profile", ["step", "long_tailed"])
@pytest.mark.parametrize("name", ["digits", "breast_cancer", "wine"])
def test_the_ratio_is_what_was_asked_for(name, profile):
    """The smallest class is 1/R of the largest but for rounding it, and majorities that differ by
    up to a fifth."""
    data = load(name)
    for ratio in (2, 5, 20):
        counts = imbalanced(data, ratio, 0, profile).counts
        target = counts.max() / ratio
        assert abs(counts.min() - target) <= 0.5 + 0.2 * target


@pytest.mark.parametrize("profile", ["step", "long_tailed"])
def test_subsamples_are_nested_and_seeded(profile):
    data = load("digits")
    sets = [set(_rows(imbalanced(data, ratio, 3, profile))) for ratio in (1, 2, 2.5, 10, 60)]
    assert all(large > small for large, small in itertools.pairwise(sets))
    again = imbalanced(data, 10, 3, profile)
    np.testing.assert_array_equal(imbalanced(data, 10, 3, profile).features, again.features)
    other = imbalanced(data, 10, 4, profile)
    np.testing.assert_array_equal(other.counts, again.counts)
    assert set(_rows(other)) != set(_rows(again))


def _rows(data):
    return map(bytes, data.features)


def test_a_little_less_than_wanted_is_taken_as_it_is():
    np.testing.assert_array_equal(imbalanced(of_counts([100, 91]), 1, 0).counts, [100, 91])
    np.testing.assert_array_equal(imbalanced(of_counts([100, 9]), 10, 0).counts, [100, 9])


@pytest.mark.parametrize("profile", ["step", "long_tailed"])
def test_an_impossible_ratio_says_what_is_possible(profile):
    data = of_counts([100, 30, 20])
    options = {"profile": profile, "minority_fraction": 0.6}
    with pytest.raises(
        InputError, match=r"^imbalance_ratio=2.0: must be at least ([\d.]+): class '"
    ) as caught:
        imbalanced(data, 2, 0, **options)
    least = float(str(caught.value).split("at least ")[1].split(":")[0])
    # step: 100/20; long tail: class 1 is the middle of three, (100/30)^2 = 11.1
    assert least == (5 if profile == "step" else 11.12)
    imbalanced(data, least, 0, **options)
    with pytest.raises(InputError, match=r"^imbalance_ratio=300.0: must be at most 100"):
        imbalanced(data, 300, 0, **options)
    assert imbalanced(data, 100, 0, **options).counts.min() == 1


@pytest.mark.parametrize(
    ("options", "message_part"),
    [
        ({"imbalance_ratio": 0.5}, "imbalance_ratio=0.5"),
        ({"imbalance_ratio": math.nan}, "imbalance_ratio=nan"),
        ({"seed": -1}, "seed=-1"),
        ({"profile": "tail"}, "profile='tail': must be one of step, long_tailed"),
        ({"minority_fraction": 0}, "minority_fraction=0"),
        ({"minority_fraction": 0.1}, "minority_fraction=0.1: must be such that 1 to 2 of 3"),
        ({"minority_fraction": 0.9}, "minority_fraction=0.9: must be such that 1 to 2 of 3"),
    ],
    ids=str,
)
def test_bad_options_of_imbalance(options, message_part):
    with pytest.raises(InputError) as caught:
        imbalanced(of_counts([20, 20, 20]), **{"imbalance_ratio": 2, "seed": 0, **options})
    assert str(caught.value).startswith(message_part)


def test_folds_need_a_sample_of_each_class():
    data = of_counts([20, 3, 4])
    check_folds(data, 3)
    with pytest.raises(
        InputError, match=r"^folds=4: must be at most .* every class: 'class 1' has 3$"
    ):
        check_folds(data, 4)
    with pytest.raises(InputError, match=r"'class 1' has 3, and 1 more"):
        check_folds(data, 5)
    with pytest.raises(InputError, match=r"^folds=1: must be an integer in \[2, "):
        check_folds(data, 1)
    assert Counter(data.labels.tolist()) == {0: 20, 1: 3, 2: 4}


# a study's options

WRONG = {
    "data": [5, None, ("wine",)],
    "strategies": [5, None, ["erm", "la"]],
    "models": [5, None, ["forest"]],
    "folds": ["5", 5.0, None, True, 1],
    "seeds": ["3", 1.5, None, False, 0],
    "imbalance_ratio": ["10", math.nan, True, 0.5, (1,)],
    "profile": [None, "tail", 5, ["step"]],
    "label": [3, None],
    "exclude": [3, None, ["id"]],
    "impute": [None, 1, "yes"],
    "sep": [3, "ab", ["a"], "9"],
    "decimal": [3, None, ";", ["."]],
    "num_steps": ["10", 1.0, 0],
    "evaluate_every": ["10", 1.0, 0],
    "hidden_layer_sizes": [5, "64", None, (0,), (2.5,), ("64",), {64}, (True,)],
    "learning_rate": ["0.1", None, 0, math.inf, True],
    "batch_size": ["10", 1.0, None, 0],
    "weight_decay": ["0.1", None, -1, True],
    "early_stopping": [None, True, "loss", 5],
    "alarm_action": [None, True, "shout", 5],
    "margin": ["0.05", None, True, 0, 1, math.nan, (0.5,)],
    "minimum_score": ["0.5", True, 2, (0.5,)],
    "cost": [5, ["a=1"], b"a=1"],
    "alarm_budget": ["0.1", True, 0, 1, (0.5,)],
    "alarm_class": [5, ["ill"]],
    "ablations": [None, 0, "no"],
    "sensitivity": [None, 1, "no"],
}


def test_every_option_has_wrong_values_above():
    assert set(WRONG) == {field.name for field in dataclasses.fields(StudyOptions)}


@pytest.mark.parametrize("field", WRONG)
def test_options_of_a_wrong_type_are_refused_in_one_short_line(field):
    long = "x\n" * 10_000
    for value in (*WRONG[field], [long], np.arange(5000), object()):
        with pytest.raises(InputError, match=f"^{field}=") as caught:
            StudyOptions(**{"data": "wine", field: value})
        assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


def test_options_are_kept_in_plain_python():
    """They are written as JSON."""
    numbers: dict[str, Any] = {"folds": np.int64(3), "hidden_layer_sizes": [np.int32(8), 4]}
    study = StudyOptions("wine", **numbers)
    assert study == StudyOptions("wine", folds=3, hidden_layer_sizes=(8, 4))
    assert type(study.folds) is int and type(study.hidden_layer_sizes[0]) is int


def test_a_study_reads_its_file_as_it_is_told(write):
    rows = "".join(f"{i};{i},5;{'xy'[i % 2]}\n" for i in range(20))
    path = write("id;a;kind\n" + rows, "users.txt")
    study = StudyOptions(str(path), label="kind", sep=";", decimal=",", exclude="id")
    data = plans.plan(study).data
    assert (data.feature_names, data.class_names) == (("a",), ("x", "y"))
    np.testing.assert_array_equal(data.features[:, 0], np.arange(20) + 0.5)


def test_signs_of_windows_and_what_it_lacks(tmp_path):
    """A euro sign is one, and a byte that Windows-1252 has no sign for is Latin-1's."""
    path = tmp_path / "money.csv"
    path.write_bytes("x,label\n1,€\n2,£\n".encode("cp1252"))
    assert load(path).class_names == ("£", "€")
    path.write_bytes(b"x,label\n1,\x81\n2,\xe9\n")
    data = load(path)
    assert data.class_names == ("\x81", "é")
    assert data.notes == ("The file 'money.csv' is not UTF-8 and was read as Latin-1.",)


@pytest.mark.parametrize("word", ["N.A.", "n.a.", "unknown", "missing", "nil", "\\N"])
def test_words_for_missing_among_numbers(word, tmp_path):
    """And how many there were is said."""
    path = tmp_path / "ages.csv"
    rows = [f"{word if i % 5 == 0 else i},{i % 2}" for i in range(40)]
    path.write_text("age,label\n" + "\n".join(rows) + "\n")
    with pytest.raises(InputError, match=r"^column 'age'='8 missing and 0 infinite of 40 entries'"):
        load(path)
    data = load(path, impute=True)
    assert data.feature_names == ("age",)
    assert np.isnan(data.features[::5, 0]).all() and np.isnan(data.features).sum() == 8
    assert "Entries missing in 'age (8)' of 40 rows: medians of each training part." in data.notes


def test_one_text_among_many_numbers_is_named(tmp_path):
    path = tmp_path / "ages.csv"
    rows = [f"{'refused' if i % 3 == 0 else i},{i % 2}" for i in range(40)]
    path.write_text("age,label\n" + "\n".join(rows) + "\n")
    with pytest.raises(
        InputError, match=r"^column 'age'='refused': must be a number .* as the others"
    ):
        load(path)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((5, {}), "data"), ((None, {}), "data"), (("wine", {"label": 5}), "label")],
)
def test_arguments_of_another_kind(arguments, name):
    data, options = arguments
    with pytest.raises(InputError, match=f"^{name}="):
        load(data, **options)
