"""Models: trained here and judged by a gate, or brought in from elsewhere.

Does not know: how a rule is judged (`models.gate`) or how a model is packaged.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, field_validator

from bedplate.core.spec.base import Declared, Entry, Name


class Promote(Declared):
    """When an alias moves to a new version: every comparison must hold. One with an absent production holds."""

    to: Name = "production"
    when: tuple[str, ...] = ()
    approvals: int | tuple[str, ...] = 0

    @field_validator("approvals")
    @classmethod
    def _people(cls, approvals: int | tuple[str, ...]) -> int | tuple[str, ...]:
        if isinstance(approvals, int) and not 0 <= approvals <= 100:
            raise ValueError("write how many people must approve, 0 to 100, or their user names")
        return approvals


class Model(Declared):
    """A model of the registry: the job that trains it and the functions that grade it and answer with it."""

    from_: Name = Field(alias="from")
    evaluate: Entry
    predict: Entry
    promote: Promote = Promote()


class Imported(Declared):
    """A model that was made elsewhere, and enters by the same door: examined, sealed, with its license.

    `from` is `dir://FOLDER`, `hf://ORGANIZATION/NAME[@REVISION]`, `mlflow://MODEL/VERSION?store=sqlite:///FILE` (or a server's URL), or
    `s3://BUCKET/PREFIX`. `files` are patterns of the files to take; none: all.
    """

    from_: str = Field(alias="from", pattern=r"^(dir|hf|mlflow|s3)://\S+$")
    license: str | None = Field(default=None, min_length=1)
    files: tuple[str, ...] = ()


def _model_kind(value: Any) -> str:
    """Which kind of model a declaration is: what is trained here comes from a job, which is no address."""
    fields = value if isinstance(value, dict) else dict(value) if isinstance(value, Declared) else {}
    return MODEL_KINDS["://" in str(fields.get("from", fields.get("from_", "")))]


MODEL_KINDS = ("trained model", "imported model")
AnyModel = Annotated[Annotated[Model, Tag("trained model")] | Annotated[Imported, Tag("imported model")], Discriminator(_model_kind)]
