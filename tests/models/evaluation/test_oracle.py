import threading

import numpy as np
import pytest

from unveil.models.evaluation.oracle import Oracle


def test_it_answers_and_ends_with_its_holder():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    oracle = Oracle(lambda x: 255 - x)
    threads = [t for t in threading.enumerate() if t.name == "oracle"]
    assert (oracle(images) == 255).all()
    assert (images == 0).all()
    del oracle
    for thread in threads:
        thread.join(5)
    assert not any(t.is_alive() for t in threads)


def test_what_the_scheme_refuses_is_refused_to_the_attacker():
    def protect(images):
        raise ValueError("sides must be multiples of 4")

    with pytest.raises(ValueError, match="multiples of 4") as caught:
        Oracle(protect)(np.zeros((1, 3, 3, 3), np.uint8))
    assert "protect" not in [frame.name for frame in caught.traceback]
