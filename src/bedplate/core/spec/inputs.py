"""What a job trains on: rows with features, documents, or images; and how they divide.

Does not know: how samples are made or read (`data`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from bedplate.core.spec.base import PLACE, Column, Declared, Name


class Inputs(Declared):
    """What a job trains on: the rows of the spine, whole and in order, with a label and point-in-time features joined to them."""

    spine: Name
    columns: tuple[Column, ...] = ()
    label: str = Field(pattern=PLACE)
    features: tuple[Name, ...] = ()


class TextInputs(Declared):
    """What a language model trains on: documents packed one after another, `end` between them, in samples of `sequence` tokens.

    `tokenizer` is a file of the `tokenizers` library: one in the project, an output of a job, or a job with one such output.
    `end` is the token that ends a document; unset, the first of the usual ones that the tokenizer has. Documents are put in an order that
    `seed` gives. `store` is where shards lie when not in the project's state, `window` how many of them are shuffled together.
    """

    text: str = Field(pattern=PLACE)
    tokenizer: str = Field(min_length=1)
    sequence: int = Field(ge=1, le=1 << 20)
    end: str | None = None
    seed: int = Field(default=0, ge=0)
    store: str | None = None
    window: int | None = Field(default=None, ge=1)

    @property
    def dataset(self) -> str:
        """The dataset that has the documents."""
        return self.text.partition(".")[0]


class ImageInputs(Declared):
    """What an image model trains on: the images that a column names (a file in the project, or `data:` with base64), resized to `size`.

    `size` is [height, width] in pixels. `label` is a column of the same dataset: text, bool and int are classes, float is a number.
    `seed`, `store` and `window` are as for text.
    """

    images: str = Field(pattern=PLACE)
    label: str | None = Field(default=None, pattern=PLACE)
    size: tuple[Annotated[int, Field(ge=1, le=16384)], Annotated[int, Field(ge=1, le=16384)]]
    seed: int = Field(default=0, ge=0)
    store: str | None = None
    window: int | None = Field(default=None, ge=1)

    @property
    def dataset(self) -> str:
        """The dataset that has the images."""
        return self.images.partition(".")[0]

    @model_validator(mode="after")
    def _one_dataset(self) -> Self:
        if self.label is not None and self.label.partition(".")[0] != self.dataset:
            raise ValueError("`label` and `images` must be columns of one dataset")
        return self


def _inputs_kind(value: Any) -> str:
    """Which kind of inputs a declaration is, by the field that only that kind has."""
    fields = value if isinstance(value, dict) else dict(value) if isinstance(value, Declared) else {}
    return next((INPUT_KINDS[field] for field in INPUT_KINDS if field in fields), "table inputs")


INPUT_KINDS = {"text": "text inputs", "images": "image inputs", "spine": "table inputs"}
AnyInputs = Annotated[
    Annotated[Inputs, Tag("table inputs")] | Annotated[TextInputs, Tag("text inputs")] | Annotated[ImageInputs, Tag("image inputs")],
    Discriminator(_inputs_kind),
]


class Split(Declared):
    """How rows divide into train, valid and test: by time, the last part is the test.

    Documents and images without a time divide by a seeded hash of their content.
    """

    by: Literal["time"] = "time"
    valid: float = 0.1
    test: float = 0.2

    @field_validator("valid", "test", mode="before")
    @classmethod
    def _percent(cls, value: Any) -> Any:
        if isinstance(value, str) and value.strip().endswith("%"):
            return float(value.strip()[:-1]) / 100
        return value

    @model_validator(mode="after")
    def _leaves_some(self) -> Self:
        if min(self.valid, self.test) < 0 or self.valid + self.test >= 1:
            raise ValueError("valid and test must be fractions that leave something to train on")
        return self
