"""Decoding: what Pillow reads becomes RGB of one size, and what it does not is its error."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from bedplate.data.feed.images import decoded
from data.documents import image


def test_an_image_of_the_wanted_size_keeps_its_pixels() -> None:
    pixels = decoded(image(200, (20, 16)), (16, 20))
    assert (pixels.dtype, pixels.shape) == (np.uint8, (3, 16, 20))
    expected = np.linspace(0, 200, 20 * 16 * 3, dtype=np.uint8).reshape(16, 20, 3)
    assert (pixels.transpose(1, 2, 0) == expected).all()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (10, 12), (200, 200, 200)).convert(mode).save(buffer, "TIFF" if mode == "CMYK" else "PNG")
    assert decoded(buffer.getvalue(), (6, 5)).shape == (3, 6, 5)


def test_a_large_jpeg_is_about_what_it_was() -> None:
    pixels = decoded(image(255, (640, 480), "JPEG"), (12, 16))
    expected = decoded(image(255, (640, 480), "PNG"), (12, 16))
    assert np.abs(pixels.astype(int) - expected).mean() < 6


def test_what_is_no_image() -> None:
    with pytest.raises(UnidentifiedImageError):
        decoded(b"no image", (4, 4))
