"""Images of a request as the arrays that training saw: decoded and resized as the feed decodes and resizes them (a test compares).

Does not know: where training's images lay.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from bedplate.core.errors import DataError
from bedplate.train.preprocess import Arrays
from bedplate.train.samples import SamplePreprocessing


class ImagePreprocessing(SamplePreprocessing):
    """The size of the training images, and their classes."""

    def encode_rows(self, rows: Sequence[Mapping[str, Any]]) -> Arrays:
        """Rows with a field "image" (encoded bytes, or text: base64, with or without `data:…,`) as "images" uint8 [rows, 3, height, width].

        Raises DataError for a row without an image, or whose image cannot be decoded.
        """
        height, width = self.facts["size"]
        images = np.empty((len(rows), 3, height, width), np.uint8)
        for place, row in enumerate(rows):
            images[place] = _decoded(_bytes_of(row.get("image")), height, width)
        return {"images": images}


def _bytes_of(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    fix = 'send {"image": "<base64 of a JPEG or PNG file>"}'
    if not isinstance(value, str):
        raise DataError("a row needs an image", value=type(value).__name__, fix=fix)
    try:
        return base64.b64decode(value.rpartition(",")[2], validate=True)
    except binascii.Error as error:
        raise DataError("an image is not base64", value=value[:40], fix=fix) from error


def _decoded(data: bytes, height: int, width: int) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.draft("RGB", (width, height))
            whole = image.convert("RGB")
            if whole.size != (width, height):
                whole = whole.resize((width, height), Image.Resampling.BILINEAR)
            return np.asarray(whole, np.uint8).transpose(2, 0, 1)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"an image cannot be decoded: {error}", fix="send a whole JPEG, PNG or WebP file") from error
