"""A mask that takes its time holds up its own stream and nobody else."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from tests.fakes.streams import engine, generate, idle_pages, run, text

from furcate.protocol.constraint import Constraint
from furcate.protocol.stream import Append, CancelStream, DefineConstraint, End, OpenStream
from furcate.runtime.clock import MonotonicClock
from furcate.runtime.scheduler.masks import InlineMasks, MaskLanes, MaskTicket
from furcate.runtime.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from furcate.runtime.constrain.base import Matcher

REGEX = DefineConstraint(1, Constraint(kind="regex", body="[a-f]{4}(-[a-f]{4})*"))
CONSTRAINED = (text("once"), generate(9, constraint=1), text(" then "), generate(3))


class HeldMasks(InlineMasks):
    """Every `rhythm`th mask is late until it is told to be there."""

    def __init__(self, rhythm: int) -> None:
        super().__init__(259, ManualClock())
        self.held: list[MaskTicket] = []
        self._rhythm = rhythm
        self._count = 0

    def fill(
        self, matchers: Sequence[tuple[Matcher, bool]], is_over: Callable[[], bool]
    ) -> list[MaskTicket]:
        tickets = super().fill(matchers, is_over)
        for ticket in tickets:
            self._count += 1
            if self._count % self._rhythm == 0:
                ticket.is_done = False
                self.held.append(ticket)
        return tickets

    def finish(self) -> None:
        for ticket in self.held:
            ticket.is_done = True
        self.held.clear()


@pytest.mark.parametrize("rhythm", [1, 2, 3])
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("jump_forward", [False, True])
def test_a_stream_whose_masks_are_late_says_what_it_says_otherwise(
    rhythm: int, overlap: bool, jump_forward: bool
) -> None:
    masks = HeldMasks(rhythm)
    eng = engine(masks=masks, overlap=overlap, jump_forward=jump_forward)
    eng.send(REGEX)
    eng.send(OpenStream(1, 0), Append(1, (*CONSTRAINED, End())))
    while 1 not in eng.ended:
        eng.run()
        masks.finish()
    plain = engine()
    plain.send(REGEX)
    expected = run(plain, *CONSTRAINED)
    assert [(d.ids, d.finish) for d in eng.done(1)] == [(d.ids, d.finish) for d in expected]
    assert idle_pages(eng) == 256


def test_others_miss_no_step_for_a_late_mask() -> None:
    steps = []
    for rhythm in (1, 1_000):  # every mask is late; none is
        masks = HeldMasks(rhythm)
        eng = engine(masks=masks, overlap=True)
        eng.send(REGEX)
        eng.send(OpenStream(1, 0), Append(1, (*CONSTRAINED, End())))
        eng.send(OpenStream(2, 1), Append(2, (text("twice"), generate(12), End())))
        while 2 not in eng.ended:
            eng.step()
        steps.append(eng.num_steps)
        eng.send(CancelStream(1))
        eng.run()
        assert idle_pages(eng) == 256
    assert steps[0] == steps[1]


def test_while_a_mask_is_late_there_is_nothing_to_do() -> None:
    masks = HeldMasks(1)
    eng = engine(masks=masks, overlap=True)
    eng.send(REGEX)
    eng.send(OpenStream(1, 0), Append(1, (*CONSTRAINED, End())))
    eng.run()
    assert not eng.scheduler.has_work
    assert idle_pages(eng) == 256  # others may have its pages meanwhile
    masks.finish()
    assert eng.scheduler.has_work


class SlowMatcher:
    """Fills once it may."""

    failure = None
    is_accepting = is_finished = False

    def __init__(self, may_fill: threading.Event) -> None:
        self.may_fill = may_fill

    def fill_mask(self, mask: np.ndarray) -> bool:
        assert self.may_fill.wait(30)
        mask[0] = 7
        return True


def test_lanes_wait_for_a_quick_mask_while_its_forward_runs() -> None:
    may_fill = threading.Event()
    lanes = MaskLanes(259, lambda: None, MonotonicClock())
    looks = []

    def is_over() -> bool:
        looks.append(0)
        if len(looks) == 3:
            may_fill.set()
        return False

    (ticket,) = lanes.fill([(SlowMatcher(may_fill), False)], is_over)  # type: ignore[list-item]
    assert ticket.is_done
    assert ticket.mask[0] == 7
    assert len(looks) >= 3
    lanes.close()


@pytest.mark.parametrize("was_slow", [False, True])
def test_lanes_leave_a_mask_that_takes_longer_than_its_forward(was_slow: bool) -> None:
    may_fill, woken = threading.Event(), threading.Event()
    lanes = MaskLanes(259, woken.set, MonotonicClock())
    (late,) = lanes.fill([(SlowMatcher(may_fill), was_slow)], lambda: True)  # type: ignore[list-item]
    assert not late.is_done
    at_once = threading.Event()
    at_once.set()
    if was_slow:  # the quick lane is free
        (ticket,) = lanes.fill([(SlowMatcher(at_once), False)], lambda: False)  # type: ignore[list-item]
        assert ticket.is_done
    may_fill.set()
    assert woken.wait(30)
    assert late.is_done
    lanes.close()
