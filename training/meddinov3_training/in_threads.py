"""Work on several cases at a time, in order, stopping early when one of them fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """The function's results in the order of `items`.

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
        try:
            yield from pool.map(function, items)
        except BaseException:  # what has not begun need not begin any more
            pool.shutdown(cancel_futures=True)
            raise
