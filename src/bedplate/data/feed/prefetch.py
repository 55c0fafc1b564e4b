"""Work done ahead of the loop by a bounded pool of threads, its results in order.

Threads, because what they do (decoding images, waiting for a store) is done by libraries that release the interpreter's lock: two threads
decode as many images a second as two processes do, without copying them between processes. `python -m bench feed` prints both.
Does not know: what the work is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(work: Callable[[Item], Result], items: Iterable[Item], *, workers: int, depth: int) -> Iterator[Result]:
    """`work(item)` of each item, in order; at most `depth` items are under way or done and not taken.

    What `work` raises is raised here, in the place of its result. Threads end with the iterator, also when it is closed early.
    """
    pool = ThreadPoolExecutor(workers, "bedplate-decode")
    coming: deque[Future[Result]] = deque()
    source = iter(items)
    try:
        for item in source:
            coming.append(pool.submit(work, item))
            if len(coming) >= depth:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
