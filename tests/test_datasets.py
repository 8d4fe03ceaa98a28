"""A study's data: what is read, what is refused in one line, and how classes are thinned out."""

import itertools
import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import sklearn.datasets

from ssm.checks import InputError
from ssm.practice.datasets import Data, check_folds, imbalanced, load


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
        (["1.0", "2.0", "1", "2"], ("1", "2")),
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
        data.class_names[c] == name.removesuffix(".0")
        for c, name in zip(data.labels, written, strict=True)
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
    assert "unless imputation is asked for" in message


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
    ("name", "content", "said"),
    [
        ("users.txt", "a,label\n1,x\n2,y\n", "ends in .csv or .npz"),
        ("users.csv", "", "not empty"),
        ("users.npz", "", "not empty"),
        ("users.csv", "\n  \n\n", "not empty"),
        ("users.csv", "a,label\n", "rows below its header"),
        ("users.csv", "a,label\n\n\n", "rows below its header"),
        ("users.csv", b"PK\x03\x04\xff\xfe\x00\xd8", "text in UTF-8"),
        ("users.csv", "a,label\n1,\xe9\n".encode("latin-1"), "text in UTF-8"),
        ("users.csv", "a,label\n1,x\n" * 9 + "1,2,3\n", "2 entries in each row (Expected 2 fields"),
        ("users.csv", "a,label\n1,x,3\n1,y,4\n", "2 entries in each row"),
        ("users.csv", "a,label\n1,x,\n1,y,4\n", "2 entries in each row"),
        ("users.csv", "label\nx\ny\n", "features beside the column 'label'"),
        ("users.csv", ",a,label\n0,1,x\n1,2,y\n", "unlike column 1"),
        ("users.csv", "a,Unnamed: 0,label\n0,1,x\n1,2,y\n", "unlike column 2"),
        ("users.csv", "a,b,a,label\n0,1,2,x\n1,2,3,y\n", "not twice: 'a'"),
        ("users.csv", "a,label,label\n0,x,x\n1,y,y\n", "not twice: 'label'"),
        ("users.npz", "a,label\n1,x\n", "readable NPZ"),
    ],
)  # fmt: skip
def test_files_of_another_shape(write, name, content, said):
    message = refused(write(content, name))
    assert message.startswith("data=")
    assert said in message


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for path in (tmp_path, tmp_path / "folder.csv"):
        assert "a file that ends in .csv or .npz" in refused(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b,kind\n1,2,x\n", "of those in the header row: 'a', 'b', 'kind'"),
        ("1,2,x\n3,4,y\n", "of those in the header row: '1', '2', 'x'"),
        ("a;b;label\n1,5;2;x\n", "separate entries by commas"),
        ("a\tb\tlabel\n1\t2\tx\n", "separate entries by commas"),
        ("Export of May\n\na;b;label\n1;2;x\n", "separate entries by commas"),
        ("Export of May\nby A. User\na,b,label\n1,2,x\n", "above line 3"),
        (",".join(f"column{i}" for i in range(500)) + "\n", "'column7', ... (500 in all)"),
    ],
)
def test_no_label_column(write, text, said):
    message = refused(write(text))
    assert message.startswith("label='label': must be a column, of those in the header row: ")
    assert said in message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("1,x\n2,x\n", "label='x in every row': must be of at least two classes"),
        ("1,x\n", "label='x in every row'"),
        ("1,1\n2,1.0\n", "label='1 in every row'"),
        ("1,x\n2,\n3,NA\n", "label='2 missing, the first in data row 2'"),
        ("1,\n2,\n", "label='2 missing"),
        ("1,inf\n2,1\n3,2\n", "label='1 missing, the first in data row 1'"),
        ("1,x\n2\n", "label='1 missing, the first in data row 2'"),
        ("1,0.5\n2,1.5\n3,2.25\n4,0.5\n", "label='3 different numbers in 4 rows': must be classes"),
    ],
)
def test_labels_that_are_no_classes(write, rows, said):
    assert refused(write("a,label\n" + rows)).startswith(said)


def test_columns_that_are_not_numbers(write):
    message = refused(write("a,colour,label\n1,2,x\n2,red,y\n3,blue,y\n"))
    assert message.startswith(
        "column 'colour'='red': must be a number (data row 2, and 1 more rows)"
    )
    assert "columns of 0 and 1" in message
    # a line of units below the header, a decimal comma, a sign for nothing
    for entry in ("cm", '"1,5"', "?", "1_000", "True"):
        message = refused(write(f"a,label\n1,x\n{entry},y\n"))
        assert message.startswith(f"column 'a'={entry.strip(chr(34))!r}: must be a number")


def test_names_of_any_kind_stay_on_one_line(write):
    long = "x" * 10_000
    message = refused(write(f'"two\nlines {long}",label\nred,x\n1,y\n'))
    assert message.startswith("column 'two\\nlines xxx")
    assert len(message) < 300


@pytest.mark.parametrize(
    ("arrays", "said"),
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
def test_wrong_arrays(write, arrays, said):
    assert refused(write(arrays, "users.npz")).startswith(said)


def test_only_a_csv_has_a_label_column(write):
    for data in ("wine", write({"features": np.eye(2), "labels": np.arange(2)}, "users.npz")):
        assert refused(data, label="kind").startswith("label='kind': must be left out")


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
    ("options", "said"),
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
def test_bad_options_of_imbalance(options, said):
    with pytest.raises(InputError) as caught:
        imbalanced(of_counts([20, 20, 20]), **{"imbalance_ratio": 2, "seed": 0, **options})
    assert str(caught.value).startswith(said)


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
