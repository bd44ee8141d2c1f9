"""The contents that a spec's cases are timed on, made once for all candidates, and beside their compiling where that is wished."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from kevolve.evaluate.contents import Pool
from kevolve.evaluate.quiet import Quiet
from kevolve.evaluate.timing import timed_pool
from kevolve.spec.spec import Case, Spec

_AT_ONCE = 4  # pools in the making: of large cases each takes seconds and, while it is made, twice its memory


class Pools:
    """Pools by case of ``spec``, under one ``seed``. Thread-safe; close it when nothing is timed on them any more.

    ``quiet``: no pool is begun while something is timed. ``made``: told of each pool, in the thread that made it.
    """

    def __init__(self, spec: Spec, *, seed: int, quiet: Quiet, made: Callable[[Case, Pool], None] = lambda case, pool: None) -> None:
        self._spec, self._seed, self._quiet, self._told = spec, seed, quiet, made
        self._makers = ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="kevolve-contents")
        self._lock = threading.Lock()
        self._pools: dict[str, Future[Pool]] = {}

    def begin(self, cases: Iterable[Case]) -> None:
        """Make those of ``cases`` from now on, in this order, several at a time."""
        for case in cases:
            self._future(case)

    def of(self, case: Case) -> Pool:
        """The pool of ``case``, waited for. Raises ``ReferenceFailed`` where its inputs cannot be made, every time."""
        return self._future(case).result()

    def _future(self, case: Case) -> Future[Pool]:
        with self._lock:
            if case.id not in self._pools:
                self._pools[case.id] = self._makers.submit(self._made, case)
            return self._pools[case.id]

    def _made(self, case: Case) -> Pool:
        with self._quiet.working():
            pool = timed_pool(self._spec, case, seed=self._seed)
        self._told(case, pool)
        return pool

    def close(self) -> None:
        """Give the memory back, of those in the making when they are made; what has not been begun is not made. Waits for nothing."""
        self._makers.shutdown(wait=False, cancel_futures=True)
        for future in self._pools.values():
            future.add_done_callback(_closed)


def _closed(made: Future[Pool]) -> None:
    if not made.cancelled() and made.exception() is None:
        made.result().close()
