"""Which versions and answers saw a person's rows: exactly those that came after the rows, and everything made of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bedplate.core.clock import SystemClock
from bedplate.core.errors import BedplateError, NotFound
from bedplate.data.ingest import ingest_stream
from bedplate.data.lake import Lake
from bedplate.data.streams.log import Log
from bedplate.flow.affected import Affected, affected_by_subject, affected_where
from bedplate.flow.answers import ANSWERS, answers_table
from bedplate.flow.workspace import Workspace, open_workspace
from flow.shop import PROJECT, make_shop, tell
from flow.test_answers import record
from models.evidence import sample


@pytest.fixture
def shop(tmp_path: Path, own_home: Path) -> Iterator[Workspace]:
    with make_shop(tmp_path / "shop", own_home) as workspace:
        yield workspace


def by_subject(workspace: Workspace, who: str) -> Affected:
    return affected_by_subject(workspace, who, lambda _: None)


def cut(workspace: Workspace, number: int, table_version: int) -> None:
    """One more cut of the table, at a Delta version."""
    version = sample.version("rows", number, "table", f"rows-{number}", "1", rows=table_version, table_version=table_version)
    tell(workspace, "version.created", version.ref, {"version": version.to_json()})


def answer(workspace: Workspace, log: Log, sequence: int, *records: bytes) -> None:
    log.append(list(records), producer="prices-1/1", sequence=sequence)


def test_only_cuts_that_hold_the_row_and_what_was_made_of_them(shop: Workspace) -> None:
    cut(shop, 4, 3)  # commits 1 to 3: ann, bob, cid
    made = sample.version("early.inputs", 1, "training_set", "early-1", "5")
    shop.ledger.append(sample.run_drafts("early-1", "early.inputs", "training_set", {"rows": "rows@4"}, made))
    shop.refresh()
    gil = by_subject(shop, "gil")
    assert [(held.version, held.column, held.rows) for held in gil.tables] == [("rows@3", "person", 1)]
    assert gil.made == {"fit.inputs@2": "training_set", "price@2": "model"}
    assert gil.serving == {"price@2": ["production"]}
    ann = by_subject(shop, "ann")
    assert [held.version for held in ann.tables] == ["rows@3", "rows@4"]
    assert set(ann.made) == {"fit.inputs@2", "price@2", "early.inputs@1"}


def test_each_cut_of_the_table_is_read_once(shop: Workspace) -> None:
    for number in (4, 5):
        cut(shop, number, 7)
    told: list[str] = []
    found = affected_by_subject(shop, "ann", told.append)
    assert [held.version for held in found.tables] == ["rows@3", "rows@4", "rows@5"]
    assert [each for each in told if each.startswith("rows@")] == ["rows@3"]


def test_a_model_that_was_built_on_an_affected_one_is_affected(shop: Workspace) -> None:
    tuned = sample.version("tuned", 1, "model", "tune-1", "7")
    shop.ledger.append(sample.run_drafts("tune-1", "tune", "train", {"base": "price@2"}, tuned))
    shop.refresh()
    assert by_subject(shop, "bob").models() == ["tuned@1", "price@2"]


def test_answers_about_the_person_and_by_the_models(shop: Workspace) -> None:
    log = Log(shop.state / "log" / answers_table("prices"), SystemClock())
    about: dict[str, Any] = {"request": json.dumps({"person": "ann", "size": 1})}
    answer(shop, log, 0, record("a-1", model="price@2", **about), record("a-2", model="price@2"), record("a-3", model="price@1", **about))
    ingest_stream("answers_prices", ANSWERS, log, "answers_prices", Lake(shop.state / "lake"), lambda _done, _total: None)
    annika = {"request": json.dumps({"person": "annika"})}
    answer(shop, log, 3, record("a-4", model="price@2", **about), record("a-5", model="price@2", **annika))
    found = by_subject(shop, "ann")
    assert [(given.id, given.endpoint, given.model) for given in found.answers] == [
        ("a-1", "prices", "price@2"),
        ("a-3", "prices", "price@1"),
        ("a-4", "prices", "price@2"),
    ], "in the lake and still in the stream, once each"
    assert found.by_models == {"price@2": 4}
    assert "Answers given about the person ann: 3." in found.letter()
    assert "by models made of tables with these rows: 4." in found.letter()


def test_of_whom_there_are_answers_but_no_rows(shop: Workspace) -> None:
    log = Log(shop.state / "log" / answers_table("prices"), SystemClock())
    answer(shop, log, 0, record("a-1", model="price@2", request=json.dumps({"person": "zoe"})))
    found = by_subject(shop, "zoe")
    assert (found.tables, found.made, found.by_models) == ([], {}, {})
    assert "Rows about the person zoe: none now." in found.letter()


def test_any_column_can_be_asked_for(shop: Workspace) -> None:
    found = affected_where(shop, "id", "5", lambda _: None)
    assert [(held.column, held.rows) for held in found.tables] == [("id", 1)]
    assert affected_where(shop, "id", "8", lambda _: None).tables == []
    assert affected_where(shop, "id", "five", lambda _: None).tables == []
    with pytest.raises(NotFound, match="no table has such a column"):
        affected_where(shop, "persn", "ann", lambda _: None)


def test_without_a_declared_column_it_says_how_to_ask(shop: Workspace) -> None:
    folder = shop.project.root
    (folder / "bedplate.yaml").write_text(PROJECT.replace("subject: person, ", ""))
    with open_workspace(folder) as again, pytest.raises(BedplateError, match="which column names a person"):
        by_subject(again, "ann")


def test_as_json_and_in_words(shop: Workspace) -> None:
    found = by_subject(shop, "eve")
    said = json.loads(json.dumps(found.to_json()))
    assert said["tables"] == [{"version": "rows@3", "column": "person", "rows": 1}]
    assert said["models"] == ["price@2"]
    assert said["letter"].splitlines() == [
        "Rows about the person eve: 1 in rows.",
        "Models made of tables with these rows: price@2 (production).",
        "Answers given about the person eve: 0.",
    ]
    assert by_subject(shop, "nobody").letter() == "We looked through rows and hold no row about the person nobody."
