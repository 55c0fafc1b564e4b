"""Lineage: the tree behind a version or a run, each thing once, common facts at the root."""

from __future__ import annotations

from typing import Any

from bedplate.core.lineage import Node, trace, trace_run
from bedplate.core.record import Records, RunRecord
from bedplate.core.run import RunState
from bedplate.core.versions import Version

HERE = {"environment": {"python": "3.11"}, "hardware": {"cores": 2}}


def records(**changes: dict[str, Any]) -> Records:
    """A model of a training set of two tables, one of which a job wrote; `changes` are to what a run recorded, by step."""
    made = Records()
    inputs: dict[str, tuple[str, ...]] = {"make": (), "rows": ("file@1",), "other": (), "set": ("rows@1", "other@1"), "fit": ("set@1",)}
    outputs = {"make": "file", "fit": "price"}
    for number, (step, needs) in enumerate(inputs.items()):
        own = {"fingerprint": "f" * 64, "inputs": {ref.partition("@")[0]: ref for ref in needs}, **HERE, **changes.get(step, {})}
        run = RunRecord(f"{step}-1", step, "job", "up-1", float(number), RunState(step, "succeeded"), own, ended_at_s=number + 2.0)
        made.runs[run.id] = run
        name = outputs.get(step, step)
        meta = {"rows": 5, "offsets": {"0": 7}, "features": [], "hidden": 1}
        made.versions[name] = [Version(name, 1, "table", name * 16, "x", run.id, 1.0, meta)]
    return made


def test_the_tree_goes_back_to_where_everything_began() -> None:
    known = records()
    assert (
        trace(known, known.version("price")).text()
        == """\
table price@1  pricepricepr
│   rows: 5
│   offsets: 0 7
│   environment: python 3.11
│   hardware: cores 2
└── run fit-1  (job, succeeded)
    │   at: 1970-01-01T00:00:04.000Z, took 2.0 s
    │   fingerprint: ffffffffffff
    └── table set@1  setsetsetset
        │   rows: 5
        │   offsets: 0 7
        └── run set-1  (job, succeeded)
            │   at: 1970-01-01T00:00:03.000Z, took 2.0 s
            │   fingerprint: ffffffffffff
            ├── table rows@1  rowsrowsrows
            │   │   rows: 5
            │   │   offsets: 0 7
            │   └── run rows-1  (job, succeeded)
            │       │   at: 1970-01-01T00:00:01.000Z, took 2.0 s
            │       │   fingerprint: ffffffffffff
            │       └── table file@1  filefilefile
            │           │   rows: 5
            │           │   offsets: 0 7
            │           └── run make-1  (job, succeeded)
            │                   at: 1970-01-01T00:00:00.000Z, took 2.0 s
            │                   fingerprint: ffffffffffff
            └── table other@1  otherotherot
                │   rows: 5
                │   offsets: 0 7
                └── run other-1  (job, succeeded)
                        at: 1970-01-01T00:00:02.000Z, took 2.0 s
                        fingerprint: ffffffffffff"""
    )


def children(node: Node) -> list[Node]:
    return [below for child in node.children for below in (child, *children(child))]


def test_what_two_ways_lead_to_is_shown_once_and_named_again() -> None:
    known = records(fit={"inputs": {"set": "set@1", "rows": "rows@1"}})
    tree = trace_run(known, known.runs["fit-1"])
    shown = [node for node in children(tree) if node.title.startswith("table rows@1")]
    assert [bool(node.children) for node in shown] == [True, False]
    assert shown[1].title.endswith("(shown above)")


def test_a_run_that_was_elsewhere_says_so_itself() -> None:
    known = records(rows={"hardware": {"cores": 64}})
    tree = trace(known, known.version("price"))
    runs = {node.title.split()[1]: node.facts for node in children(tree) if node.title.startswith("run ")}
    assert tree.facts["hardware"] == {"cores": 2}
    assert runs["rows-1"]["hardware"] == {"cores": 64} and "environment" not in runs["rows-1"]
    assert "hardware" not in runs["fit-1"]


def test_code_parameters_and_attempts_are_told() -> None:
    code = {"files": ["fit.py", "net.py"], "snapshot": "a" * 64, "commit": "c0ffee", "dirty": "d" * 64}
    known = records(fit={"code": code, "params": {"lr": 0.1}}, set={"code": {**code, "commit": None, "dirty": None}})
    known.runs["fit-1"].attempts = [None, None]
    facts = trace_run(known, known.runs["fit-1"]).facts
    assert facts["code"] == "fit.py, net.py  snapshot aaaaaaaaaaaa"
    assert facts["commit"] == "c0ffee + uncommitted changes dddddddddddd"
    assert (facts["params"], facts["attempts"]) == ({"lr": 0.1}, 2)
    assert trace_run(known, known.runs["set-1"]).facts["commit"] == "not in a git work tree"


def test_a_version_whose_run_is_not_known_stands_alone() -> None:
    known = records()
    del known.runs["make-1"]
    assert trace(known, known.version("file")).children == ()


def test_a_run_that_lasts_has_no_duration() -> None:
    known = records()
    known.runs["fit-1"].ended_at_s = None
    assert trace_run(known, known.runs["fit-1"]).facts["at"] == "1970-01-01T00:00:04.000Z"


def test_a_tree_is_plain_data_and_safe_in_a_page() -> None:
    node = Node("a <b>", {"n": 1.23456, "empty": [], "list": [1, {"x": 2}]}, (Node("child"),))
    assert node.to_json() == {"title": "a <b>", "facts": dict(node.facts), "from": [{"title": "child", "facts": {}, "from": []}]}
    assert node.text() == "a <b>\n│   n: 1.235\n│   empty: none\n│   list: 1, x 2\n└── child"
    assert "<b>" not in node._repr_html_() and "&lt;b&gt;" in node._repr_html_()
