"""tools/servers.sh tells what is missing, counts no half-finished build, and says clearly when it cannot install."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "tools" / "servers.sh"
BINARIES = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"]


def servers(cache: Path, *arguments: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
    # the script is handed over on standard input: another user may not be able to enter the checkout
    return subprocess.run(
        ["bash", "-s", "--", *arguments],
        input=SCRIPT.read_text(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "BEDPLATE_SERVERS_DIR": str(cache)},
        cwd="/",
        user=user,
    )


def kubernetes_line(output: str) -> str:
    (line,) = [line for line in output.splitlines() if line.startswith("kubernetes ")]
    return " ".join(line.split())


def fill(cache: Path, *binaries: str) -> None:
    (cache / "bin").mkdir(parents=True, exist_ok=True)
    for name in binaries:
        (cache / "bin" / name).write_text("#!/bin/sh\n")
        (cache / "bin" / name).chmod(0o755)


def test_an_empty_cache_is_reported_and_left_alone(tmp_path: Path) -> None:
    done = servers(tmp_path / "cache", "--check")
    assert done.returncode == 1
    assert kubernetes_line(done.stdout) == f"kubernetes missing: {' '.join(BINARIES)}"
    assert not (tmp_path / "cache").exists()


def test_binaries_without_the_stamp_of_a_finished_build_do_not_count(tmp_path: Path) -> None:
    fill(tmp_path, *BINARIES)
    assert kubernetes_line(servers(tmp_path, "--check").stdout).startswith("kubernetes missing:")
    (tmp_path / "kubernetes.recipe").write_text("kubernetes 1.20.2, recipe 0\n")
    assert kubernetes_line(servers(tmp_path, "--check").stdout).startswith("kubernetes missing:")


def test_a_deleted_binary_is_named(tmp_path: Path) -> None:
    recipe = next(line for line in SCRIPT.read_text().splitlines() if line.startswith("KUBE_RECIPE="))
    number = recipe.split("recipe ")[1].split('"')[0]
    (tmp_path / "kubernetes.recipe").write_text(f"kubernetes 1.20.2, recipe {number}\n")
    fill(tmp_path, *BINARIES)
    assert kubernetes_line(servers(tmp_path, "--check").stdout) == "kubernetes present"
    (tmp_path / "bin" / "kubelet").unlink()
    assert kubernetes_line(servers(tmp_path, "--check").stdout) == "kubernetes missing: kubelet"


def test_without_root_nothing_is_tried(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        user = None
    else:
        user = "nobody"
        tmp_path.chmod(0o755)
    done = servers(Path("/nonexistent/cache"), user=user)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "needs root" in done.stderr or "not Debian" in done.stderr


def test_an_unknown_argument_is_refused(tmp_path: Path) -> None:
    done = servers(tmp_path, "--chek")
    assert done.returncode == 1
    assert "unknown argument '--chek'" in done.stderr
