"""The Docker daemon builds, runs and pushes; the registry gives the image back."""

from __future__ import annotations

import httpx
import pytest

from servers.testbed.docker import Docker


@pytest.fixture(scope="module", name="image")
def _image(docker: Docker) -> str:
    docker.busybox_image("bedplate-test/busybox:1")
    return "bedplate-test/busybox:1"


def test_a_container_runs_and_gives_its_exit_status(docker: Docker, image: str) -> None:
    said = docker.client("run", "--rm", "--network=none", "--env=NAME=bedplate", image, "sh", "-c", "echo hello $NAME")
    assert said == "hello bedplate\n"
    with pytest.raises(AssertionError, match="status 5"):
        docker.client("run", "--rm", "--network=none", image, "sh", "-c", "exit 5")


def test_a_container_on_the_bridge_has_no_way_out(docker: Docker, image: str) -> None:
    said = docker.client(
        "run", "--rm", image, "sh", "-c", "busybox ip -4 -o addr show eth0; busybox ping -c1 -W1 192.0.2.1 || echo cut off"
    )
    assert "inet 172." in said
    assert said.endswith("cut off\n")


def test_an_image_is_pushed_and_pulled_by_digest(docker: Docker, image: str, registry: str) -> None:
    name = f"{registry}/busybox"
    docker.client("tag", image, f"{name}:1")
    pushed = docker.client("push", f"{name}:1")
    digest = next(word for word in pushed.split() if word.startswith("sha256:"))
    with httpx.Client(base_url=f"http://{registry}", trust_env=False) as client:
        assert client.get("/v2/busybox/tags/list").json() == {"name": "busybox", "tags": ["1"]}
    docker.client("rmi", f"{name}:1")
    docker.client("pull", f"{name}@{digest}")
    assert docker.client("run", "--rm", "--network=none", f"{name}@{digest}", "true") == ""
