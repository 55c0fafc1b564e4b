import os
import socket
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from torch.distributed import PrefixStore, TCPStore

from bedplate.train.forking import LOOPBACK
from bedplate.train.meeting import Meeting
from train.samples import attempt_in, wait_until


def met(tmp_path: Path) -> tuple[Meeting, int]:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = int(listener.getsockname()[1])
        return Meeting(attempt_in(tmp_path, world_size=2), listener, 2), port


def joined(port: int) -> TCPStore:
    return TCPStore(LOOPBACK, port, 2, is_master=False, timeout=timedelta(seconds=2))


def holders(port: int) -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if any(each.laddr.port == port for each in child.net_connections())]


def test_what_one_rank_says_another_hears_from_a_process_beside_this_one(tmp_path: Path) -> None:
    meeting, port = met(tmp_path)
    PrefixStore("attempt-1/0", joined(port)).set("here", "rank 0")
    assert PrefixStore("attempt-1/0", joined(port)).get("here") == b"rank 0"
    assert not meeting.ended()
    [store] = holders(port)
    assert store.pid != os.getpid()
    meeting.close()
    meeting.close()
    assert meeting.ended()
    assert not store.is_running()


def test_a_store_that_died_is_noticed_and_nobody_waits_for_it(tmp_path: Path) -> None:
    meeting, port = met(tmp_path)
    joined(port)
    [store] = holders(port)
    store.kill()
    wait_until(meeting.ended)
    with pytest.raises(RuntimeError, match="connect"):
        joined(port)
    meeting.close()
