"""Images of a request: the very pixels that training saw."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from bedplate.core.errors import DataError
from bedplate.data.feed.images import decoded
from bedplate.train.images import ImagePreprocessing
from bedplate.train.preprocess import Preprocessing
from data.documents import image

FITTED = ImagePreprocessing.read(
    {"kind": "images", "label": "kind", "facts": {"size": [12, 16], "source": "photos", "classes": ["cat", "dog"]}}
)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("size", [(16, 12), (40, 30), (640, 480), (5, 7)])
def test_a_request_and_the_feed_decode_alike(kind: str, size: tuple[int, int]) -> None:
    data = image(180, size, kind)
    arrays = FITTED.encode_rows([{"image": data}, {"image": base64.b64encode(data).decode()}])
    assert (arrays["images"].dtype, arrays["images"].shape) == (np.uint8, (2, 3, 12, 16))
    assert (arrays["images"] == decoded(data, (12, 16))).all()


def test_a_data_url_is_an_image_too() -> None:
    url = "data:image/png;base64," + base64.b64encode(image(90)).decode()
    assert (FITTED.encode_rows([{"image": url}])["images"][0] == decoded(image(90), (12, 16))).all()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "a row needs an image"),
        (5, "a row needs an image"),
        ("?", "not base64"),
        (b"none", "cannot be decoded"),
        (image(9)[:50], "decoded"),
    ],
)
def test_what_is_no_image(value: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        FITTED.encode_rows([{"image": value}])


def test_size_and_classes_are_in_the_signature() -> None:
    read = Preprocessing.from_json(FITTED.to_json())
    assert (read.signature.size, read.signature.classes, read.signature.label) == ((12, 16), ("cat", "dog"), "kind")
