"""Who has the public port: who is named, or anybody once that process has died."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bedplate.flow.steps.handover import Doors

SAYS = """
import sys
from pathlib import Path
from bedplate.flow.steps.handover import Doors
Doors(Path(sys.argv[1]), "delays").say("delays-2", "delay@2", 1, 4002, is_open=True)
print("said", flush=True)
sys.stdin.read()
"""


def test_a_door_that_nobody_has_is_everybodys(tmp_path: Path) -> None:
    doors = Doors(tmp_path, "delays")
    assert (doors.holder(), doors.router("delays-1"), doors.mine("delays-1")) == (None, None, True)


def test_what_a_router_says_of_itself_is_read_by_others(tmp_path: Path) -> None:
    Doors(tmp_path, "delays").say("delays-1", "delay@1", 3, 4001, is_open=False)
    other = Doors(tmp_path, "delays").router("delays-1")
    assert other is not None
    assert (other.run, other.model, other.inner, other.open, other.alive) == ("delays-1", "delay@1", 4001, False, True)
    assert Doors(tmp_path, "prices").router("delays-1") is None


def test_the_port_is_whose_it_is_named_and_comes_back_when_that_process_dies(tmp_path: Path) -> None:
    doors = Doors(tmp_path, "delays")
    other = subprocess.Popen([sys.executable, "-c", SAYS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"said\n"
        doors.give("delays-2")
        assert (doors.mine("delays-1"), doors.mine("delays-2")) == (False, True)
        doors.give("delays-1")
        assert doors.mine("delays-1")
        doors.give("delays-2")
        other.kill()
    assert doors.mine("delays-1"), "who has it is dead"
