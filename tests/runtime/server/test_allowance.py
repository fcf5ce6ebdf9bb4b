"""So many restarts within any stretch of time."""

from __future__ import annotations

from furcate.runtime.server.allowance import Allowance
from furcate.runtime.testing import ManualClock


def test_an_allowance_is_spent_and_comes_back_with_time() -> None:
    clock = ManualClock()
    allowance = Allowance(2, 10.0, clock)
    assert allowance.take()
    clock.advance(6)
    assert allowance.take()
    assert not allowance.take()
    clock.advance(4)
    assert allowance.take()
    assert not allowance.take()
    clock.advance(6)
    assert allowance.take()


def test_an_allowance_of_none_refuses_the_first() -> None:
    assert not Allowance(0, 10.0, ManualClock()).take()


def test_an_allowance_over_no_time_is_never_spent() -> None:
    allowance = Allowance(1, 0.0, ManualClock())
    assert all(allowance.take() for _ in range(5))
