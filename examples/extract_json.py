"""Twenty support e-mails become twenty typed tickets, in one batch behind one instruction.

The longest ticket that the schema allows has fewer bytes than MAX_TOKENS: none can be cut off.
"""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

import furcate as fc

EMAILS: list[str] = json.loads(Path(__file__).with_name("data").joinpath("emails.json").read_text())
MAX_TOKENS = 200

Name = Annotated[str, Field(pattern=r"^[A-Z][a-z]{1,11}( [A-Z][a-z]{1,11})?$")]
Product = Annotated[str, Field(pattern=r"^[a-z]{2,12}( [a-z]{2,12})?$")]


class Ticket(BaseModel):
    customer: Name
    product: Product
    category: Literal["billing", "delivery", "defect", "account", "question"]
    urgency: Literal["low", "medium", "high"]
    wants_refund: bool


SHOWN = {
    "I paid two times for one vase. Max Hall": '{"customer":"Max Hall",'
    '"product":"vase","category":"billing","urgency":"medium","wants_refund":true}',
    "The toaster burns every slice. I want my money back! Anna Weber": '{"customer":"Anna Weber",'
    '"product":"toaster","category":"defect","urgency":"high","wants_refund":true}',
    "My garden chair has not come yet, no hurry. Li Chen": '{"customer":"Li Chen",'
    '"product":"garden chair","category":"delivery","urgency":"low","wants_refund":false}',
}


@fc.function
def extract(s: fc.ProgramState, email: str) -> None:
    s += fc.system("Read the e-mail of a customer and fill in the support ticket as JSON.")
    for shown, ticket in SHOWN.items():
        s += fc.user(shown) + fc.assistant(ticket)
    s += fc.user(email)
    s += fc.assistant(fc.gen("ticket", type=Ticket, max_tokens=MAX_TOKENS, temperature=0.0))


def main(emails: list[str] = EMAILS) -> list[Ticket]:
    states = extract.run_batch([(email,) for email in emails])
    for t in (tickets := [state["ticket"] for state in states]):
        print(f"{t.customer:<26}{t.product:<26}{t.category:<10}{t.urgency:<8}{t.wants_refund}")
    print(f"{len(tickets)} valid tickets of {len(emails)} e-mails. Tokens:", end=" ")
    kinds = ("reused", "same_step", "forced", "decoded", "computed")
    print(*(f"{sum(getattr(s.usage, kind) for s in states)} {kind}" for kind in kinds), sep=", ")
    return tickets


if __name__ == "__main__":
    main()
