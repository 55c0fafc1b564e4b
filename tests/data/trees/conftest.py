from collections.abc import Iterator

import pytest

from servers.testbed.provide import provide
from servers.testbed.s3 import S3, s3


@pytest.fixture(scope="session", name="s3")
def _s3() -> Iterator[S3]:
    with provide(s3()) as server:
        yield server
