"""What a pickle would call when it is read, found without reading it: its opcodes are walked, nothing is executed.

Does not know: files or formats around a pickle (`formats`).
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from typing import IO

# what torch.load(weights_only=True) takes of a pickle of tensors (torch/_weights_only_unpickler.py)
TENSORS = frozenset(
    {
        "collections.OrderedDict",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor_v2",
        "torch._tensor._rebuild_from_type_v2",
        "torch.Size",
        "torch.device",
        "torch.serialization._get_layout",
        *(
            f"torch.{kind}Storage"
            for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool", "Untyped")
        ),
        *(f"torch.storage.{kind}" for kind in ("UntypedStorage", "TypedStorage")),
    }
)
UNKNOWN = "(computed when it is read)"
_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
_CALLS = {"REDUCE", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"}
_BROKEN = (ValueError, IndexError, KeyError, UnicodeDecodeError, OverflowError)  # of genops: an opcode that is none, or a cut
_MOST_OPCODES = 5_000_000


def globals_of(data: bytes | IO[bytes]) -> frozenset[str] | None:
    """`module.name` of everything that reading `data` would import; None when `data` does not begin with a whole pickle.

    A name that the pickle computes is given as UNKNOWN.
    """
    try:
        return frozenset(_globals(data))
    except _BROKEN:
        return None


def called_before_the_end(data: bytes | IO[bytes]) -> frozenset[str]:
    """`module.name` of what reading `data` calls, also where it breaks later on: the library calls as it reads.

    Text that happens to be opcodes for a while calls nothing: a call needs a name that can be imported, and something to call it with.
    """
    named: set[str] = set()
    called: set[str] = set()
    marked = given = False
    try:
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            if name in ("GLOBAL", "INST") and str(argument).count(" ") == 1:
                (named if name == "GLOBAL" else called if marked else set()).add(str(argument).replace(" ", "."))
            elif name == "STACK_GLOBAL":
                named.add(UNKNOWN)
            elif name in _CALLS:
                called |= named if given else set()
            else:
                given = given or bool(named and opcode.stack_after)
            marked = marked or name == "MARK"
    except _BROKEN:
        return frozenset(called)
    return frozenset(called)


def begins_like_one(data: bytes) -> bool:
    """Whether `data` begins as pickles of protocol 2 and later do: the protocol, then a frame or an opcode that makes a value."""
    return len(data) > 2 and data[0] == 0x80 and 2 <= data[1] <= 5


def _globals(data: bytes | IO[bytes]) -> Iterator[str]:
    pushed: list[str] = []  # strings pushed one right after another: the only way in which a name of STACK_GLOBAL is believed
    memo: dict[int, str] = {}
    stored = 0
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        name = opcode.name
        if name in ("EXT1", "EXT2", "EXT4") or count > _MOST_OPCODES:
            yield UNKNOWN
            return
        if name == "MEMOIZE" or name in _PUTS:
            place = stored if name == "MEMOIZE" else int(argument or 0)
            stored += 1
            memo.pop(place, None)
            if pushed:
                memo[place] = pushed[-1]
            continue
        if name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif name == "STACK_GLOBAL":
            yield ".".join(pushed[-2:]) if len(pushed) >= 2 else UNKNOWN
        if name in _STRINGS:
            pushed.append(argument.decode(errors="replace") if isinstance(argument, bytes) else str(argument))
        elif name in _GETS and int(argument or 0) in memo:
            pushed.append(memo[int(argument or 0)])
        else:
            pushed = []
