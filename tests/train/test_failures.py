from pathlib import Path

import pytest

from bedplate.core.errors import JobError
from bedplate.train.failures import Failure, describe

HERE = Path(__file__).parent


def caught(error: BaseException, code: Path = HERE) -> Failure:
    try:
        raise error
    except BaseException as raised:
        return describe(raised, 3, code)


def test_a_users_error_says_type_message_and_place_in_the_users_code() -> None:
    failure = caught(ValueError("too few\nrows"))
    assert failure.failure == "user_error"
    assert failure.message.startswith("ValueError: too few (test_failures.py:")
    assert (failure.rank, "raise error" in failure.traceback) == (3, True)


def test_our_own_error_keeps_its_fix_and_code_elsewhere_still_has_a_place() -> None:
    failure = caught(JobError("no", value=3, fix="do"), Path("/nowhere"))
    assert failure.message.startswith("JobError: no (got 3). Fix: do (test_failures.py:")


def test_an_error_without_words_is_its_type() -> None:
    assert caught(KeyboardInterrupt()).message.startswith("KeyboardInterrupt (")


@pytest.mark.parametrize("text", ["[gloo/transport/tcp/pair.cc:553] Connection closed by peer", "NCCL error: unhandled system error"])
def test_the_loss_of_a_peer_is_no_users_error_even_when_it_is_wrapped(text: str) -> None:
    assert caught(RuntimeError(text)).failure == "worker_lost"
    wrapped = ValueError("could not step")
    wrapped.__cause__ = RuntimeError(text)
    assert caught(wrapped).failure == "worker_lost"
    assert caught(ValueError(text)).failure == "user_error"
