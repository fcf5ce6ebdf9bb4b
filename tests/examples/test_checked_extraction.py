"""JSON extraction with a check, as a user would write it, on SmolLM2."""

from enum import Enum

import pytest
from pydantic import BaseModel, Field

import furcate as fc

RETRIES = 2


class Priority(str, Enum):  # noqa: UP042  (as users write it)
    low = "low"
    medium = "medium"
    high = "high"


class Ticket(BaseModel):
    customer: str
    priority: Priority
    items: list[str] = Field(max_length=5)
    refund: float | None = None


@fc.function
def extract(s, email):
    s += fc.user("Extract the support ticket.\n\n" + email)
    s += fc.assistant(
        fc.gen("ticket", type=Ticket, max_tokens=60, check=lambda t: t.items != [], retries=RETRIES)
    )


EMAILS = [
    "I paid twice for two mugs, please refund 12.50. - Ada",
    "The blue lamp arrived broken. Grace",
    "Where is my parcel with the garden chairs? Alan",
    "Thanks.",
]


@pytest.mark.slow
@pytest.mark.smollm2
def test_each_email_is_a_ticket_that_was_checked_or_an_error_that_says_why(smollm2):
    items = [{"email": email} for email in EMAILS]
    states = extract.run_batch(items, on_error="return", backend=smollm2, seed=0)
    told = []
    for state in states:
        if state.ok:
            ticket = state["ticket"]
            assert type(ticket) is Ticket
            assert ticket.items
            assert type(ticket.priority) is Priority
            assert ticket.refund is None or type(ticket.refund) is float
            told.append(state.get_meta_info("ticket")["attempts"])
        else:
            error = state.error()
            assert error.location.startswith(__file__)
            assert isinstance(error.cause, fc.Truncated | fc.ValidationFailed)
            told.append(error.cause.attempts)
            assert told[-1] == RETRIES + 1
    assert all(1 <= attempts <= RETRIES + 1 for attempts in told)
    assert any(state.ok for state in states)
