"""InfiniBand and RoCE ports, and what makes a collective library use them."""

from __future__ import annotations

from pathlib import Path

from bedplate.hardware.fabric import environment, ports
from hardware.trees import port, tree


def test_ports_with_rate_state_layer_and_interface(tmp_path: Path) -> None:
    files = {
        **port("mlx5_1", state="1: DOWN", rate="10 Gb/sec (4X)"),
        **port("mlx5_0"),
        **port("roce_2", layer="Ethernet", rate="100 Gb/sec"),
    }
    first, second, third = ports(tree(tmp_path, files))
    assert (first.adapter, first.number, first.layer, first.active, first.rate_gb_s) == ("mlx5_0", 1, "InfiniBand", True, 400.0)
    assert (first.interfaces, first.node) == (("ib0",), 1)
    assert (second.active, second.rate_gb_s) == (False, 10.0)
    assert (third.layer, third.rate_gb_s) == ("Ethernet", 100.0)


def test_a_node_that_the_firmware_does_not_say_is_none(tmp_path: Path) -> None:
    (found,) = ports(tree(tmp_path, {**port("mlx5_0"), "sys/class/infiniband/mlx5_0/device/numa_node": "-1\n"}))
    assert found.node is None


def test_a_port_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    files = port("mlx5_0") | port("mlx5_1")
    root = tree(tmp_path, files)
    (root / "sys/class/infiniband/mlx5_1/ports/1/rate").unlink()
    assert [each.adapter for each in ports(root)] == ["mlx5_0"]
    assert ports(tmp_path / "nothing") == ()


def test_the_environment_names_active_ports_only(tmp_path: Path) -> None:
    found = ports(tree(tmp_path, {**port("mlx5_0"), **port("mlx5_1", state="1: DOWN"), **port("mlx5_2")}))
    assert environment(found) == {
        "NCCL_IB_HCA": "=mlx5_0:1,mlx5_2:1",
        "UCX_NET_DEVICES": "mlx5_0:1,mlx5_2:1",
        "NCCL_SOCKET_IFNAME": "ib0,ib2",
    }
    assert environment([each for each in found if not each.active]) == {"NCCL_IB_DISABLE": "1"}
    assert environment([]) == {}
