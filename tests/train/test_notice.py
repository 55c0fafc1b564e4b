import os
import signal

import pytest

from bedplate.train.notice import StopNotice, Stopped


def test_a_notice_ends_user_code_at_once_and_only_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopNotice() as notice:
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # a second one must not break what the first one began
    assert notice.given
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_deferred_notice_waits_to_be_looked_at() -> None:
    with StopNotice() as notice:
        with notice.deferred(), notice.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
        assert notice.given


def test_no_except_exception_holds_it_up() -> None:
    assert not issubclass(Stopped, Exception)
