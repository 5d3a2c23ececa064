"""What work costs, for tests that no step is quadratic: seconds of this thread, without collections of garbage.

A test worker holds what thousands of tests imported, and a single collection of that heap takes a second.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable


def seconds(work: Callable[[], object]) -> float:
    """Seconds of processor time that this thread spends on the work."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        start = time.thread_time()
        work()
        return time.thread_time() - start
    finally:
        if enabled:
            gc.enable()
