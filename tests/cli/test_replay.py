"""`bedplate replay`: its exit code and what it prints; the comparison is tested in tests/flow/test_replaying.py."""

from __future__ import annotations

import json
from pathlib import Path

from cli.kit import as_json, bedplate, refused


def test_a_run_that_gives_the_same_again_ends_with_0_and_one_that_does_not_with_1(hello: Path) -> None:
    assert bedplate(hello, "run", "hello").returncode == 0
    done = bedplate(hello, "replay", "hello-1", "--keep", "kept")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        [name, "agrees"] for name in ("data", "code", "environment", "results")
    ]
    assert list((hello / "kept" / "state" / "runs" / "hello-1").iterdir()), "what it wrote is kept"
    assert "is there already" in refused(hello, "replay", "hello-1", "--keep", "kept")

    code = hello / "hello.py"
    code.write_text(code.read_text().replace("len(name)", "len(name) + 1"))
    assert "note: the project's code is another now: the file hello.py changed" in bedplate(hello, "replay", "hello-1").stdout
    other = bedplate(hello, "replay", "hello-1", "--here", "--json")
    assert other.returncode == 1
    found = {aspect["name"]: aspect for aspect in json.loads(other.stdout)["aspects"]}
    assert found["code"]["said"] == "the file hello.py changed"
    assert found["results"]["said"] == "the metric letters was 5.0 and is 6.0"
    assert as_json(hello, "ps", "--all")[-1]["id"] == "hello-1", "nothing was recorded"


def test_a_run_that_did_not_succeed_has_nothing_to_compare_with(hello: Path) -> None:
    (hello / "hello.py").write_text("def hello(run, name='world', seconds=0):\n    raise ValueError('no')\n")
    assert bedplate(hello, "run", "hello").returncode == 1
    assert "only a run that succeeded has results to compare with" in refused(hello, "replay", "hello-1")
