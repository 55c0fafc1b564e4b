import os
import signal

import pytest

from bedplate.train.notice import Regroup, StopNotice, Stopped


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


def test_a_notice_that_came_while_deferred_does_not_end_code_behind_it() -> None:
    with StopNotice() as notice:
        with notice.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # a second one is no news
        assert notice.given


def test_the_outer_deferral_holds_when_an_inner_one_is_over() -> None:
    with StopNotice() as notice, notice.deferred():
        with notice.deferred():
            assert not notice.given
        os.kill(os.getpid(), signal.SIGTERM)
        assert notice.given


def test_an_error_within_ends_the_deferral() -> None:
    with StopNotice() as notice:
        with pytest.raises(ZeroDivisionError), notice.deferred():
            raise ZeroDivisionError
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)


def test_notices_within_one_another_are_each_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopNotice() as outer:
        with StopNotice() as inner, inner.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
        assert (outer.given, inner.given) == (False, True)
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
        assert outer.given
    assert signal.getsignal(signal.SIGTERM) is before


def test_user_code_that_catches_every_exception_is_ended_all_the_same() -> None:
    caught = 0
    with StopNotice(), pytest.raises(Stopped):
        for _ in range(3):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except Exception:
                caught += 1
    assert caught == 0
    assert not issubclass(Regroup, Exception)
    assert not issubclass(Regroup, Stopped)


def test_the_handler_is_put_back_also_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyError), StopNotice():
        raise KeyError("user")
    assert signal.getsignal(signal.SIGTERM) is before
