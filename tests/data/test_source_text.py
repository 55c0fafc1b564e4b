"""Text files as rows: sorted by path, bad ones to the quarantine, a change of any file a change of the source."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.core.errors import DataError
from bedplate.core.spec import Dataset
from bedplate.data.cut import Cut, read_cut
from bedplate.data.ingest import ingest_file
from bedplate.data.lake import Lake


def ingested(folder: Path, dataset: Dataset | None = None) -> Cut:
    given = dataset or Dataset(source="text/**/*.py")
    return ingest_file("corpus", given, folder / given.source, Lake(folder / "lake"), lambda *_: None)


def rows(folder: Path, cut: Cut, name: str = "corpus") -> list[dict[str, object]]:
    table = read_cut(Lake(folder / "lake"), name, cut.table_version, Dataset(source="text/**/*.py"))
    return table.select(["path", "text", "_offset"]).to_pylist()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "text" / "sub").mkdir(parents=True)
    (tmp_path / "text" / "b.py").write_text("print('b')\n")
    (tmp_path / "text" / "sub" / "a.py").write_text("# größe\n")
    (tmp_path / "text" / "notes.md").write_text("not this one")
    return tmp_path


def test_each_file_is_a_row(project: Path) -> None:
    cut = ingested(project)
    assert rows(project, cut) == [
        {"path": "b.py", "text": "print('b')\n", "_offset": 0},
        {"path": "sub/a.py", "text": "# größe\n", "_offset": 1},
    ]
    assert (cut.rows, cut.quarantined) == (2, 0)


def test_a_file_that_is_not_utf8_goes_to_the_quarantine_with_the_reason(project: Path) -> None:
    (project / "text" / "latin.py").write_bytes(b"# gr\xf6\xdfe\n")
    cut = ingested(project)
    assert (cut.rows, cut.quarantined, dict(cut.reasons)) == (2, 1, {"not UTF-8": 1})
    bad = Lake(project / "lake").read("corpus_quarantine", None).to_pylist()
    assert [(row["_offset"], row["raw"]) for row in bad] == [(1, b"# gr\xf6\xdfe\n")]
    assert "latin.py has b'\\xf6\\xdfe\\n' at byte 4" in bad[0]["reason"]
    assert [row["path"] for row in rows(project, cut)] == ["b.py", "sub/a.py"]


def test_a_new_a_changed_or_a_renamed_file_is_another_version_and_the_same_is_the_same(project: Path) -> None:
    digests = [ingested(project).digest, ingested(project).digest]
    (project / "text" / "c.py").write_text("new")
    digests.append(ingested(project).digest)
    (project / "text" / "c.py").rename(project / "text" / "d.py")
    digests.append(ingested(project).digest)
    (project / "text" / "d.py").write_text("NEW")
    digests.append(ingested(project).digest)
    (project / "text" / "notes.md").write_text("still not this one")
    digests.append(ingested(project).digest)
    assert [digests.index(each) for each in digests] == [0, 0, 2, 3, 4, 4]


def test_declared_columns_may_be_fewer_but_not_others(project: Path) -> None:
    cut = ingested(project, Dataset(source="text/**/*.py", columns={"text": "string"}))
    assert cut.rows == 2
    with pytest.raises(DataError, match="title"):
        ingested(project, Dataset(source="text/**/*.py", columns={"text": "string", "title": "string"}))


def test_many_files_are_read_in_parts(project: Path) -> None:
    for number in range(1500):
        (project / "text" / f"many-{number:04d}.py").write_text(str(number))
    found = rows(project, ingested(project))
    assert [row["_offset"] for row in found] == list(range(1502))
    assert found[1200]["text"] == "1199"
