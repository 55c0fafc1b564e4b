"""Commands and files go to a host and come back; what is lost is told from what failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.cluster import remote_ssh
from bedplate.cluster.remote_ssh import Lost, Shell
from bedplate.core.errors import BedplateError, Unavailable
from servers.testbed.openssh import OpenSsh


@pytest.fixture
def host(openssh: OpenSsh) -> Shell:
    return Shell("a", str(openssh.config))


def test_a_command_says_what_it_printed_or_why_it_failed(host: Shell) -> None:
    assert host.run(["printf", "%s", "a b; $HOME"]) == "a b; $HOME"
    with pytest.raises(BedplateError, match=r"failed on host a: .*nowhere"):
        host.run(["ls", "/nowhere"])


def test_a_host_that_does_not_answer_is_lost(openssh: OpenSsh, host: Shell) -> None:
    with pytest.raises(Lost, match=r"nowhere: .*refused"):
        Shell("nowhere", str(openssh.config)).run(["true"])
    with pytest.raises(Lost, match=r"within 0\.2 s"):
        host.run(["sleep", "60"], limit_s=0.2)
    with pytest.raises(Lost):
        Shell("nowhere", str(openssh.config)).push([("/etc", "hostname")], "/tmp/there")


def test_only_what_is_missing_travels_and_links_that_lead_out_stay(host: Shell, tmp_path: Path) -> None:
    here, there, back = (tmp_path / name for name in ("here", "there", "back"))
    (here / "code" / "x y").mkdir(parents=True)
    (here / "code" / "x y" / "é.py").write_text("1")
    (here / "other").write_text("2")
    host.push([(str(here), "code"), (str(tmp_path), "here/other")], str(there / "deep er"))
    assert (there / "deep er" / "code" / "x y" / "é.py").read_text() == "1"
    assert (there / "deep er" / "here" / "other").read_text() == "2"
    inode = (there / "deep er" / "code" / "x y" / "é.py").stat().st_ino
    host.push([(str(here), "code")], str(there / "deep er"))
    assert (there / "deep er" / "code" / "x y" / "é.py").stat().st_ino == inode
    (there / "deep er" / "code" / "leak").symlink_to("/etc/hostname")
    back.mkdir()
    host.pull(str(there / "deep er"), ["code", "here/other"], str(back))
    assert sorted(path.relative_to(back).as_posix() for path in back.rglob("*") if path.is_file()) == ["code/x y/é.py", "here/other"]
    assert not (back / "code" / "leak").is_symlink()


def test_a_connection_is_shared_and_nothing_is_asked(host: Shell) -> None:
    words = " ".join(host.ssh)
    assert "BatchMode=yes" in words
    assert "ControlMaster=auto" in words
    host.run(["true"])
    assert any(path.is_socket() for path in remote_ssh.sockets().iterdir())


def test_a_folder_of_sockets_that_others_can_enter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    remote_ssh.sockets().chmod(0o755)
    with pytest.raises(Unavailable, match="not this user's alone"):
        remote_ssh.sockets()


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unavailable, match="need 'ssh'"):
        remote_ssh.check_tools()
