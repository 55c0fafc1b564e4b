"""A saved model's signature as others read it."""

from __future__ import annotations

from dataclasses import replace

from bedplate.train.described import described, example
from bedplate.train.preprocess import fit
from train.samples import flights_feed


def test_a_table_model_names_its_columns_and_its_label() -> None:
    fitted = fit(flights_feed())
    found = described(fitted.signature)
    assert [(each["name"], each["dtype"]) for each in found["inputs"]] == [
        *((name, "float64") for name in fitted.signature.numeric),
        *((name, "string") for name in fitted.signature.categorical),
    ]
    assert found["outputs"] == [{"name": fitted.signature.label, "dtype": "float64", "shape": [-1]}]
    assert found["label_mean"] == fitted.signature.label_mean, "what the project's own readers want is there too"


def test_the_example_is_a_row_that_the_model_takes_and_none_of_the_data() -> None:
    feed = flights_feed()
    fitted = fit(feed)
    [row] = example(fitted)["inputs"]
    assert set(row) == {*fitted.signature.numeric, *fitted.signature.categorical}
    assert fitted.encode_rows([row])["numeric"].shape == (1, fitted.signature.numeric_width)


def test_tokens_and_images() -> None:
    table = fit(flights_feed()).signature
    tokens = replace(table, kind="tokens", facts={"vocabulary": 99, "sequence": 8, "end": 0})
    assert described(tokens)["inputs"] == [{"name": "tokens", "dtype": "int64", "shape": [-1, 8]}]
    assert described(tokens)["outputs"] == [{"name": "logits", "dtype": "float32", "shape": [-1, -1, 99]}]
    images = replace(table, kind="images", label="digit", facts={"size": [8, 6], "classes": ["0", "1"]})
    assert described(images)["inputs"] == [{"name": "images", "dtype": "uint8", "shape": [-1, 3, 8, 6]}]
    assert described(images)["outputs"] == [{"name": "digit", "dtype": "float32", "shape": [-1, 2]}]
    assert described(replace(images, facts={"size": [8, 6], "classes": []}))["outputs"][0]["shape"] == [-1]
