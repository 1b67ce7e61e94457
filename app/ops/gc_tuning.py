"""Python set up for a service: many small requests, beside a few with megabytes."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_GC_THRESHOLD_OBJECTS = 50_000  # new objects, so once in many requests; by default after 700
_SWITCH_INTERVAL_S = (
    0.0005  # a thread with an image's bytes makes way for the event loop so soon; by default after 5 ms
)


@contextmanager
def tuned_gc() -> Iterator[None]:
    """For the life of the service; then all is as before."""
    thresholds, switch_s = gc.get_threshold(), sys.getswitchinterval()
    gc.collect()
    gc.freeze()  # code and routes stay: a full collection that walks through them halts every request meanwhile
    gc.set_threshold(_GC_THRESHOLD_OBJECTS, *thresholds[1:])
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(switch_s)
        gc.set_threshold(*thresholds)
        gc.unfreeze()
