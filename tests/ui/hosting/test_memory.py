"""Memory that is given back to the system while no visitor's run goes on."""

import os
import threading
from pathlib import Path

import pytest
import torch

from bon.ui.work.memory import give_back_memory
from bon.ui.work.priority import WaitingRuns


def resident_bytes() -> int:
    """What this process holds of the machine's memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell it")
def test_freed_memory_under_memory_in_use_is_given_back() -> None:
    tensors = [torch.zeros(8_000) for _ in range(4_000)]  # 32 kB each, which glibc takes from its heap
    last = tensors.pop()
    del tensors
    before = resident_bytes()
    give_back_memory()
    assert before - resident_bytes() > 64_000_000
    assert not last.any()


def test_it_is_given_back_once_after_runs_and_not_while_one_goes_on() -> None:
    waiting, rests = WaitingRuns(), threading.Semaphore(0)

    def work() -> None:
        for _ in range(2):
            waiting.wait_until_at_rest(0.05)
            assert not waiting.count
            rests.release()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert not rests.acquire(timeout=0.3)  # there was no run
    with waiting.count_run(), waiting.count_run():
        assert not rests.acquire(timeout=0.3)
    assert rests.acquire(timeout=10)
    assert not rests.acquire(timeout=0.3)  # and none since
    with waiting.count_run():
        pass
    assert rests.acquire(timeout=10)
    thread.join(10)
