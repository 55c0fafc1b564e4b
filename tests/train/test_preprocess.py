import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bedplate.core.errors import DataError
from bedplate.core.protocols import FeedSchema
from bedplate.train.preprocess import CUT_SIGMAS, Preprocessing, Scale, Signature, Vocabulary, fit
from train.samples import WORDS, ArrayFeed, flights_feed

NUMBERS = st.none() | st.floats(-1e6, 1e6) | st.sampled_from([math.inf, -math.inf, math.nan, 1e300])
STRINGS = st.none() | st.sampled_from(["", "a", "b", "é", "new"])


def feed_of(train: dict[str, list], test: dict[str, list] | None = None, words: tuple[str, ...] = ()) -> ArrayFeed:
    def typed(columns: dict[str, list]) -> dict[str, np.ndarray]:
        return {name: np.array(values, np.int32 if name == "word" else np.float64) for name, values in columns.items()}

    numeric = tuple(name for name in train if name not in ("word", "y"))
    categorical = ("word",) if "word" in train else ()
    schema = FeedSchema(numeric, categorical, "y")
    return ArrayFeed({"train": typed(train), "test": typed(test or train)}, schema, {"word": words})


def test_numbers_are_scaled_by_the_train_split_and_nulls_become_zero_with_an_indicator() -> None:
    feed = feed_of({"full": [1.0, 3.0], "holes": [math.nan, 5.0], "y": [0.0, 2.0]})
    fitted = fit(feed)
    numeric = fitted.encode_columns(feed.columns("train"), feed.dictionary)["numeric"]
    assert numeric.dtype == np.float32
    assert numeric.tolist() == [[-1.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    assert fitted.signature == Signature(("full", "holes"), ("holes",), (), (), "y", 1.0, 1.0)
    assert fitted.signature.numeric_width == 3


def test_only_the_train_split_is_looked_at() -> None:
    train = {"x": [1.0, 2.0, 3.0], "word": [0, 0, 1], "y": [1.0, 2.0, 3.0]}
    one = feed_of(train, {"x": [9.0], "word": [2], "y": [9.0]}, ("a", "b", "c"))
    other = feed_of(train, {"x": [math.nan], "word": [0], "y": [-9.0]}, ("a", "b", "c"))
    assert fit(one) == fit(other)
    assert fit(one).categorical[0].words == ("a", "b")


def test_an_unseen_or_null_category_is_index_zero_and_codes_of_another_feed_mean_their_strings() -> None:
    fitted = fit(feed_of({"word": [1, 0, -1], "y": [0.0] * 3}, words=("b", "a")))
    codes = {"word": np.array([0, 1, 2, -1], np.int32)}
    assert fitted.encode_columns(codes, lambda _: ("x", "b", "a"))["categorical"].tolist() == [[0], [2], [1], [0]]


@pytest.mark.parametrize(("values", "encoded"), [([7.0, 7.0], [[0.0], [0.0]]), ([math.nan, math.nan], [[0.0, 1.0], [0.0, 1.0]])])
def test_a_constant_column_and_an_empty_one_stay_finite(values: list[float], encoded: list[list[float]]) -> None:
    feed = feed_of({"x": values, "y": [0.0, 1.0]})
    assert fit(feed).encode_columns(feed.columns("train"), feed.dictionary)["numeric"].tolist() == encoded


def test_outliers_are_cut_and_the_label_stays_raw() -> None:
    feed = feed_of({"x": [0.0] * 99 + [1000.0], "y": [5.0] * 99 + [700.0]})
    arrays = fit(feed).encode_columns(feed.columns("train"), feed.dictionary)
    assert arrays["numeric"].max() == 8.0
    assert arrays["label"].dtype == np.float32
    assert arrays["label"][-1] == 700.0


@given(st.lists(st.tuples(NUMBERS, NUMBERS, STRINGS), min_size=1, max_size=12), st.integers(1, 12))
def test_rows_and_columns_with_equal_values_are_encoded_equally(rows: list[tuple], fitted_on: int) -> None:
    words = sorted({word for *_, word in rows if word is not None})

    def columns(part: list[tuple]) -> dict[str, list]:
        numbers = {name: [math.nan if row[place] is None else row[place] for row in part] for place, name in enumerate("ab")}
        return {**numbers, "word": [-1 if row[2] is None else words.index(row[2]) for row in part], "y": [0.0] * len(part)}  # fmt: skip

    train = [row for row in rows[:fitted_on] if 1e300 not in row[:2]] or [(0.0, 0.0, None)]
    feed = feed_of(columns(train), columns(rows), tuple(words))
    fitted = Preprocessing.from_json(json.loads(json.dumps(fit(feed).to_json())))
    assert fitted == fit(feed)
    by_columns = fitted.encode_columns(feed.columns("test"), feed.dictionary)
    by_rows = fitted.encode_rows([{"a": a, "b": b, "word": word, "other": object()} for a, b, word in rows])
    for name in ("numeric", "categorical"):
        assert by_rows[name].dtype == by_columns[name].dtype
        assert by_rows[name].tobytes() == by_columns[name].tobytes()
    assert np.isfinite(by_rows["numeric"]).all()
    assert by_rows["categorical"].max() < fitted.signature.cardinalities[0]


def test_integers_and_truth_values_are_numbers_in_a_row() -> None:
    fitted = fit(feed_of({"x": [0.0, 2.0], "y": [0.0, 1.0]}))
    assert fitted.encode_rows([{"x": 2}, {"x": True}, {"x": 10**400}])["numeric"].tolist() == [[1.0], [0.0], [0.0]]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"delay": 1.0, "carrier": "AA"}, "'distance'"),
        ({"delay": "1", "distance": 2.0, "carrier": "AA"}, "takes numbers (got '1')"),
        ({"delay": 1.0, "distance": 2.0, "carrier": 3}, "takes text (got 3)"),
        ({"delay": 1.0, "distnace": 2.0, "carrier": "AA"}, "did you mean 'distnace'"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_with_the_column_and_the_value(row: dict, said: str) -> None:
    with pytest.raises(DataError, match=said.replace("(", r"\(").replace(")", r"\)")):
        fit(flights_feed()).encode_rows([row])


def test_a_missing_column_of_a_feed_is_named() -> None:
    feed = flights_feed()
    with pytest.raises(DataError, match="'distance'"):
        fit(feed).encode_columns({"delay": np.zeros(1), "carrier": np.zeros(1, np.int32)}, feed.dictionary)


def test_a_split_without_rows_and_values_beyond_scaling_are_errors() -> None:
    with pytest.raises(DataError, match="no rows"):
        fit(feed_of({"x": [], "y": []}))
    with pytest.raises(DataError, match="'x' are too large"):
        fit(feed_of({"x": [1e300, -1e300], "y": [0.0, 1.0]}))


def test_the_signature_names_what_the_flights_model_takes() -> None:
    fitted = fit(flights_feed())
    signature = fitted.signature
    assert signature.numeric == ("delay", "distance")
    assert signature.indicators == ("delay",)
    assert signature.cardinalities == (len(WORDS),)  # four words of the train split and the unknown
    assert signature.to_json()["numeric_width"] == 3


def test_preprocessing_needs_no_torch() -> None:
    program = "import sys, bedplate.train.preprocess; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def made(*scales: Scale, words: tuple[str, ...] | None = None) -> Preprocessing:
    return Preprocessing(scales, () if words is None else (Vocabulary("word", words),), Scale("y", 0.0, 1.0, indicator=False))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (10.0, 0.0), (14.0, 2.0), (6.0, -2.0), (26.0, CUT_SIGMAS), (26.1, CUT_SIGMAS), (-6.0, -CUT_SIGMAS), (1e300, CUT_SIGMAS),
        (-1.7e308, -CUT_SIGMAS), (None, 0.0), (math.nan, 0.0), (math.inf, 0.0), (-math.inf, 0.0), (np.float32(12.0), 1.0),
        (np.int64(8), -1.0),
    ],
)  # fmt: skip
def test_a_number_is_scaled_and_cut_by_hand(value: object, expected: float) -> None:
    assert made(Scale("x", 10.0, 2.0, indicator=False)).encode_rows([{"x": value}])["numeric"].tolist() == [[expected]]


def test_indicators_follow_all_columns_in_their_order() -> None:
    fitted = made(Scale("a", 0.0, 1.0, indicator=True), Scale("b", 0.0, 1.0, indicator=False), Scale("c", 0.0, 1.0, indicator=True))
    rows = [{"a": None, "b": None, "c": 3.0}, {"a": 1.0, "b": 2.0, "c": math.inf}]
    assert fitted.encode_rows(rows)["numeric"].tolist() == [[0.0, 0.0, 3.0, 1.0, 0.0], [1.0, 2.0, 0.0, 0.0, 1.0]]
    assert fitted.signature.indicators == ("a", "c")
    assert fitted.signature.numeric_width == 5


def test_no_rows_are_arrays_without_rows() -> None:
    arrays = made(Scale("x", 0.0, 1.0, indicator=True), words=("a",)).encode_rows([])
    assert (arrays["numeric"].shape, arrays["numeric"].dtype) == ((0, 2), np.float32)
    assert (arrays["categorical"].shape, arrays["categorical"].dtype) == ((0, 1), np.int64)


def test_a_model_of_categories_alone_takes_as_many_rows_as_there_are() -> None:
    fitted = made(words=("a", "b"))
    arrays = fitted.encode_columns({"word": np.array([1, 0, 1], np.int32)}, lambda _: ("b", "a"))
    assert arrays["numeric"].shape == (3, 0)
    assert arrays["categorical"].tolist() == [[1], [2], [1]]
    assert "label" not in arrays


@pytest.mark.parametrize(("word", "index"), [("a", 1), ("b", 2), ("B", 0), ("", 0), (" a", 0), (None, 0)])
def test_a_category_is_its_place_in_the_sorted_vocabulary(word: str | None, index: int) -> None:
    assert made(words=("a", "b")).encode_rows([{"word": word}])["categorical"].tolist() == [[index]]


@pytest.mark.parametrize("value", ["1.0", b"1", [1], {"x": 1}, 1j])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(DataError, match="column 'x' takes numbers"):
        made(Scale("x", 0.0, 1.0, indicator=False)).encode_rows([{"x": value}])


@pytest.mark.parametrize("value", [1, 1.5, True, b"a", ["a"]])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(DataError, match="column 'word' takes text"):
        made(words=("a",)).encode_rows([{"word": "a"}, {"word": value}])


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
@example([699051.2605553998] * 3)
@example([0.1] * 7)
def test_a_scaled_train_split_has_no_mean_and_a_deviation_of_one(values: list[float]) -> None:
    feed = feed_of({"x": values, "y": [0.0] * len(values)})
    fitted = fit(feed)
    scaled = (np.array(values) - fitted.numeric[0].mean) / fitted.numeric[0].std
    assert abs(scaled.mean()) < 1e-3
    assert scaled.std() == pytest.approx(1.0) or len(set(values)) == 1 or np.std(values) < 1e-6
    assert not fitted.numeric[0].indicator


def test_a_column_of_equal_values_is_shifted_and_not_blown_up() -> None:
    fitted = fit(feed_of({"x": [699051.2605553998] * 3, "y": [0.0] * 3}))
    assert fitted.numeric[0].std == 1.0
    assert fitted.encode_rows([{"x": 699051.2605553998}, {"x": 699052.2605553998}])["numeric"].ravel().tolist() == pytest.approx(
        [0, 1], abs=1e-6
    )


def test_a_vocabulary_has_each_string_once_sorted_by_code_point() -> None:
    codes = [3, 0, 0, 2, 1, -1, 3]
    fitted = fit(feed_of({"word": codes, "y": [0.0] * 7}, words=("b", "é", "B", "a", "never used")))
    assert fitted.categorical[0].words == ("B", "a", "b", "é")
    assert fitted.signature.cardinalities == (5,)


def test_a_column_of_nulls_only_has_an_empty_vocabulary() -> None:
    fitted = fit(feed_of({"word": [-1, -1], "y": [0.0, 1.0]}))
    assert fitted.categorical[0].words == ()
    assert fitted.encode_rows([{"word": "anything"}])["categorical"].tolist() == [[0]]


def test_another_split_can_be_fitted_on() -> None:
    feed = feed_of({"x": [0.0, 2.0], "y": [0.0, 0.0]}, {"x": [10.0, 30.0], "y": [1.0, 3.0]})
    assert fit(feed, "test").numeric == (Scale("x", 20.0, 10.0, indicator=False),)
    assert fit(feed, "test").label == Scale("y", 2.0, 1.0, indicator=False)


@pytest.mark.parametrize("name", ["vocabulary", "sequence", "end", "size", "classes"])
def test_a_model_of_columns_has_no_facts_of_samples(name: str) -> None:
    with pytest.raises(DataError, match=f"kind 'table' has no such fact.*{name}"):
        getattr(made().signature, name)


def test_facts_of_samples_are_typed() -> None:
    tokens = Signature((), (), (), (), "y", 0.0, 1.0, "tokens", {"vocabulary": 50257.0, "sequence": "128", "end": 50256})
    assert (tokens.vocabulary, tokens.sequence, tokens.end) == (50257, 128, 50256)
    images = Signature((), (), (), (), "y", 0.0, 1.0, "images", {"size": [32, 24], "classes": ["cat", "dog"]})
    assert (images.size, images.classes) == ((32, 24), ("cat", "dog"))
    assert images.to_json()["kind"] == "images"
    assert not {"kind", "facts"} & set(made().signature.to_json())


def test_a_kind_of_sample_that_nobody_knows_is_refused() -> None:
    with pytest.raises(Exception, match="kind of sample"):
        Preprocessing.from_json({"kind": "smells"})
