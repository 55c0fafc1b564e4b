import json
from itertools import pairwise
from pathlib import Path

import pytest

from bedplate.core.errors import JobError
from bedplate.train.failures import TAIL_BYTES, TRACEBACK_CHARS, Failure, NumericError, causes, class_by_log, describe, described_class

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


def chained(*errors: BaseException, by_cause: bool = True) -> BaseException:
    """The first, which the others led to in turn."""
    for outer, inner in pairwise(errors):
        if by_cause:
            outer.__cause__ = inner
        else:
            outer.__context__ = inner
    return errors[0]


class DistBackendError(RuntimeError):
    """As torch names what its backends raise."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NumericError("the loss is not finite"), "numeric"),
        (chained(ValueError("x"), NumericError("nan")), "numeric"),
        (chained(RuntimeError("NCCL error"), NumericError("nan")), "numeric"),
        (DistBackendError("a message of any kind"), "worker_lost"),
        (RuntimeError("Connection reset by peer"), "worker_lost"),
        (chained(KeyError("a"), ValueError("b"), RuntimeError("TCPStore is gone")), "worker_lost"),
        (ConnectionResetError("Connection reset by peer"), "user_error"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"), "out_of_memory"),
        (chained(ValueError("x"), MemoryError()), "out_of_memory"),
        (ValueError("out of memory"), "user_error"),
        (KeyboardInterrupt(), "user_error"),
    ],
)
def test_the_class_of_an_error_and_of_what_led_to_it(error: BaseException, expected: str) -> None:
    assert described_class(error) == expected
    assert caught(error).failure == expected


@pytest.mark.parametrize("by_cause", [True, False])
def test_what_led_to_an_error_is_found_however_it_was_raised(by_cause: bool) -> None:
    errors = [ValueError("1"), KeyError("2"), RuntimeError("3")]
    assert list(causes(chained(*errors, by_cause=by_cause))) == errors
    assert list(causes(None)) == []


def test_a_long_traceback_keeps_its_end_and_the_record_is_json() -> None:
    failure = caught(ValueError("x" * (2 * TRACEBACK_CHARS) + "\nthe end"))
    assert len(failure.traceback) == TRACEBACK_CHARS and failure.traceback.endswith("the end\n")
    assert Failure(**json.loads(json.dumps(failure.to_json()))) == failure


def test_an_error_of_arithmetic_says_where_the_batch_was() -> None:
    error = NumericError("the loss is not finite", value="nan", fix="lower the rate", where=(0, 2, 640))
    assert error.where == (0, 2, 640)
    assert caught(error).message.startswith("NumericError: the loss is not finite (got 'nan'). Fix: lower the rate (")


def test_an_error_that_was_never_raised_has_no_place() -> None:
    assert describe(ValueError("only made"), 0, HERE).message == "ValueError: only made"


PATTERNS = {r"Xid \d+": "exclude_node", "bus error": "out_of_memory", ".*": "user_error"}


@pytest.mark.parametrize(
    ("log", "patterns", "expected"),
    [
        ("bus error, then NVRM: Xid 79", PATTERNS, "exclude_node"),  # the first of the patterns, not of the log
        ("a bus error", PATTERNS, "out_of_memory"),
        ("all is well", PATTERNS, "user_error"),
        ("all is well", {"Xid": "exclude_node"}, None),
        ("Xid", {}, None),
    ],
)
def test_the_log_is_searched_for_the_patterns_in_their_order(
    tmp_path: Path, log: str, patterns: dict[str, str], expected: str | None
) -> None:
    (tmp_path / "log").write_text(log)
    assert class_by_log(tmp_path / "log", patterns) == expected


def test_only_the_end_of_a_log_counts_and_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert class_by_log(log, PATTERNS) is None, "there is no log"
    log.write_bytes(b"Xid 79\n" + b"\xff" * TAIL_BYTES)
    assert class_by_log(log, {"Xid": "exclude_node"}) is None
    log.write_bytes(b"\xff" * TAIL_BYTES + b"Xid 79")
    assert class_by_log(log, {"Xid": "exclude_node"}) == "exclude_node"
