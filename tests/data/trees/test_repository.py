"""The folder that DVC knows: made as `dvc init` does, found from below, its configuration read."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bedplate.core.errors import BedplateError, NotFound, SpecError
from bedplate.data.trees.repository import Repository
from data.trees.facts import with_remote, write


def test_a_repository_is_made_once_beside_the_project_file(tmp_path: Path) -> None:
    write(tmp_path, {"bedplate.yaml": b"project: x\n", "deep/down/x": b"1"})
    with pytest.raises(NotFound, match="bedplate data add PATH"):
        Repository.open(tmp_path / "deep")
    made = Repository.open(tmp_path / "deep" / "down", make=True)
    assert made.root == tmp_path
    assert (tmp_path / ".dvc" / "config").read_text() == "[core]\n    no_scm = True\n"
    assert (tmp_path / ".dvc" / ".gitignore").read_text() == "/config.local\n/tmp\n/cache\n"
    assert Repository.open(tmp_path / "deep").root == tmp_path


def test_paths_are_those_of_the_project(tmp_path: Path) -> None:
    repository = Repository.open(write(tmp_path / "p", {"a/x": b"1"}), make=True)
    assert repository.relative(tmp_path / "p" / "a" / ".." / "a" / "x") == "a/x"
    for outside in (tmp_path / "x", tmp_path / "p", tmp_path / "p" / ".dvc" / "config", Path("/etc/passwd")):
        with pytest.raises(BedplateError, match="not a path inside the project"):
            repository.relative(outside)


def test_remotes_and_links_are_read_and_local_settings_win(tmp_path: Path) -> None:
    repository = with_remote(Repository.open(tmp_path, make=True), "s3://bucket/x", profile="ops")
    local = f'[\'remote "store"\']\n    secret_access_key = "s%ret"\n[cache]\n    type = reflink, copy\n    dir = {tmp_path}/c\n'
    (tmp_path / ".dvc" / "config.local").write_text(local)
    repository = Repository.open(tmp_path)
    assert repository.remote() == ("store", {"url": "s3://bucket/x", "profile": "ops", "secret_access_key": "s%ret"})
    assert repository.links in (["reflink", "copy"], ["copy"])
    assert repository.cache.folder == tmp_path / "c" / "files" / "md5"
    with pytest.raises(NotFound, match=r"no such remote in \.dvc/config \(got 'stor'\)"):
        repository.remote("stor")


def test_a_wrong_configuration_is_named(tmp_path: Path) -> None:
    repository = Repository.open(tmp_path, make=True)
    with pytest.raises(NotFound, match="no remote is named"):
        repository.remote()
    assert repository.links[-2:] == ["hardlink", "copy"]
    (tmp_path / ".dvc" / "config").write_text("[cache]\n    type = magic\n")
    with pytest.raises(SpecError, match="magic"):
        _ = Repository.open(tmp_path).links
    (tmp_path / ".dvc" / "config").write_text("no section\n")
    with pytest.raises(SpecError, match="not a configuration of DVC"):
        Repository.open(tmp_path)


def test_dvc_files_are_found_but_not_inside_trees_and_hidden_folders(tmp_path: Path) -> None:
    write(tmp_path, {"a.dvc": b"", "a/b.dvc": b"", "d/c.dvc": b"", ".venv/x.dvc": b"", "d/.dvc": b""})
    assert sorted(Repository(tmp_path, {}).tracked()) == ["a", "d/c"]


def test_git_leaves_a_tracked_path_out(tmp_path: Path) -> None:
    repository = Repository.open(tmp_path, make=True)
    repository.ignore_in_git("a")
    assert not (tmp_path / ".gitignore").exists(), "no git here"
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    write(tmp_path, {".gitignore": b"*.pyc", "a[1]": b"", "sub/x": b""})
    for _ in range(2):
        repository.ignore_in_git("a[1]")
        repository.ignore_in_git("sub/x")
    assert (tmp_path / ".gitignore").read_text() == "*.pyc\n/a\\[1]\n"
    assert (tmp_path / "sub" / ".gitignore").read_text() == "/x\n"
    assert subprocess.run(["git", "-C", str(tmp_path), "check-ignore", "-q", "a[1]"], check=False).returncode == 0
