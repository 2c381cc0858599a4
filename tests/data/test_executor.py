"""Map steps: the same results in the same order, whatever runs them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pipeline.core.errors import StoreError
from pipeline.data.executor import AHEAD, executor


def square(number: int) -> int:
    return number * number


def die(_number: int) -> int:
    os._exit(9)


def fail(number: int) -> int:
    raise ValueError(f"no {number}")


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_order_whatever_the_number_of_workers(workers: int) -> None:
    with executor(workers) as pool:
        assert list(pool.map(square, range(50))) == [n * n for n in range(50)]


def test_only_a_few_items_are_taken_ahead() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    with executor(2) as pool:
        results = pool.map(square, items())
        assert next(results) == 0
        assert len(taken) <= 2 * AHEAD + 1


def test_a_worker_that_dies_is_one_clear_line() -> None:
    with executor(2) as pool, pytest.raises(StoreError, match="worker process of prepare died"):
        list(pool.map(die, range(4)))


def test_an_error_of_a_step_reaches_the_caller() -> None:
    with executor(2) as pool, pytest.raises(ValueError, match="no 0"):
        list(pool.map(fail, range(4)))
