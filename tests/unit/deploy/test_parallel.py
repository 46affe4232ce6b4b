from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from s3sync_agent.deploy.parallel import for_each


def test_every_item_is_worked_on_once() -> None:
    done: list[int] = []
    for_each(range(1000), done.append, workers=8)
    assert sorted(done) == list(range(1000))


def test_the_workers_work_at_the_same_time() -> None:
    meeting = threading.Barrier(4)
    for_each(range(4), lambda _: meeting.wait(10), workers=4)


def test_items_are_taken_when_a_worker_is_free_and_not_before() -> None:
    taken: list[int] = []
    done: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            assert len(taken) - len(done) <= 3
            yield item

    for_each(items(), done.append, workers=3)
    assert len(done) == 100


def test_an_error_stops_the_rest_and_is_raised() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        if item == 3:
            raise ValueError(item)
        done.append(item)

    with pytest.raises(ValueError, match="3"):
        for_each(range(1000), work, workers=1)
    assert done == [0, 1, 2]


def test_an_error_in_one_thread_stops_the_others() -> None:
    meeting = threading.Barrier(2)

    def work(item: int) -> None:
        if item < 2:
            meeting.wait(10)
        if threading.current_thread().name.endswith("_1"):
            raise ValueError(item)

    with pytest.raises(ValueError, match=r"[01]"):
        for_each(itertools.count(), work, workers=2)


def test_an_interrupt_stops_the_rest_too() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        done.append(item)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        for_each(range(1000), work, workers=1)
    assert done == [0]
