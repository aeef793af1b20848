"""Work on several cases at a time, each with one thread of torch's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """The function's results in the order of `items`.

    No more is begun than one item beyond what the threads work on: while the caller does not ask,
    they run dry.

    Args:
        function: of one item; reading, unpacking and numpy's loops run outside Python's lock,
            so that threads pay, and nothing has to be sent to another process.
        items: to work on.
        workers: threads; 0 works in the caller's, one item when its result is asked for.
    """
    if workers < 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:  # what has not begun need not begin any more
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in the caller's thread alone.

    Sums over pixels depend on how many threads share them, and worker processes have one. And
    for single slices threads do not pay: on a busy machine they wait for each other, ten times
    longer than they compute.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
