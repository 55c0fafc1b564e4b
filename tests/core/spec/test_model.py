"""Models: trained here or from elsewhere, and who approves."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bedplate.core.spec import ProjectSpec, Promote


@pytest.mark.parametrize(("approvals", "kept"), [(0, 0), (2, 2), (["ann", "bob"], ("ann", "bob"))])
def test_approvals_are_a_number_or_people(approvals: object, kept: object) -> None:
    assert Promote.model_validate({"approvals": approvals}).approvals == kept


@pytest.mark.parametrize("approvals", [-1, 101, "ann", 1.5])
def test_what_is_no_number_of_people(approvals: object) -> None:
    with pytest.raises(ValidationError):
        Promote.model_validate({"approvals": approvals})


def test_a_model_is_trained_here_or_comes_from_elsewhere_told_by_its_from() -> None:
    models = {
        "delay": {"from": "fit", "evaluate": "fit.py:evaluate", "predict": "fit.py:predict"},
        "base": {"from": "hf://org/name@main", "license": "mit", "files": ["*.safetensors"]},
    }
    spec = ProjectSpec.model_validate({"project": "p", "models": models})
    assert (set(spec.trained), set(spec.imported)) == ({"delay"}, {"base"})
    assert spec.imported["base"].license == "mit"
    again = ProjectSpec.model_validate(spec.model_dump(mode="json", by_alias=True))
    assert again == spec, "as a launch records it"


@pytest.mark.parametrize("address", ["ftp://host/x", "dir://", "hf://a b", "://x"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        ProjectSpec.model_validate({"project": "p", "models": {"base": {"from": address}}})
