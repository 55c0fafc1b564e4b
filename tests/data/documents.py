"""What the tests of text and images share: a table of documents, a tokenizer for them, and small images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

NOW = datetime(2024, 1, 1, tzinfo=UTC)
END = "<|end|>"


def table(**columns: Sequence[Any]) -> pa.Table:
    """A cut with these columns; each row was known a minute after the one before."""
    rows = len(next(iter(columns.values())))
    known = pa.array([NOW + timedelta(minutes=row) for row in range(rows)], pa.timestamp("us", tz="UTC"))
    system = {"_known_at": known, "_partition": pa.array([0] * rows, pa.int32()), "_offset": pa.array(range(rows), pa.int64())}
    return pa.table({**columns, **system})


def tokenizer(path: Path, end: str = END) -> Tokenizer:
    """A tokenizer of single bytes, saved to `path`."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=257, special_tokens=[end], initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([], trainer)
    made.save(str(path))
    return made


def image(color: int, size: tuple[int, int] = (40, 30), kind: str = "PNG") -> bytes:
    """An encoded image, width and height given: a gradient towards a gray."""
    width, height = size
    pixels = np.linspace(0, color, width * height * 3, dtype=np.uint8).reshape(height, width, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()
