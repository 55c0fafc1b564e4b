"""What happens to a test when its server is not on the machine: one loud line, or a failure where servers must be there.

Does not know: how servers start.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

import pytest

from servers.testbed.process import Missing

Server = TypeVar("Server")

REQUIRE = "BEDPLATE_REQUIRE_SERVERS"  # set to 1 in CI: a missing server is a failure


@contextmanager
def provide(server: AbstractContextManager[Server]) -> Iterator[Server]:
    """Enter a server of the test bed for a fixture. Where it is missing the test skips; with the variable set it fails.

    A server that the `test` extra ships is never skipped.
    """
    with ExitStack() as stack:
        absence: Missing | None = None
        try:
            started = stack.enter_context(server)
        except Missing as missing:
            absence = missing
        if absence is not None:
            if absence.ships_with_pip or os.environ.get(REQUIRE) == "1":
                pytest.fail(str(absence), pytrace=False)
            pytest.skip(str(absence))
        yield started
