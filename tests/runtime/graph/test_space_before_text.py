"""Vocabularies that put a space before the first word: the front knows where a text stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.fakes.fake_engine import FakeEngine
from tests.fakes.front_driver import Driver
from tests.runtime.tokenize.test_sentence_pieces import header, trained

from furcate.protocol.graph import Fork, Gen, Node, Role, Score, Select, Special, Text
from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import Append, Choose, Extend, Generate
from furcate.runtime.tokenize.sentence_piece import SentencePieceTokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.stream import EngineRequest

TURN = "<|turn|>"
TEMPLATE = "{% for m in messages %}<|turn|>{{ m.content }}<|turn|>{% endfor %}"


class Watched(FakeEngine):
    """Keeps what each stream is given: texts as they read, "*" for a generation, and choices."""

    def __init__(self, codec: SentencePieceTokenizer) -> None:
        super().__init__(fingerprint=codec.fingerprint)
        self.codec = codec
        self.given: dict[int, list[str]] = {}

    def handle(self, requests: Sequence[EngineRequest]) -> None:
        for request in requests:
            for node in request.nodes if isinstance(request, Append) else ():
                given = self.given.setdefault(request.stream, [])  # type: ignore[union-attr]
                if isinstance(node, Extend):
                    given.append(self.read(node.ids))
                elif isinstance(node, Generate):
                    given.append("*")
                elif isinstance(node, Choose):
                    given.append("|".join(map(self.read, node.choices)))
        super().handle(requests)

    def read(self, ids: Sequence[int]) -> str:
        turn, bos = self.codec.control(TURN), self.codec.bos_id
        names = {turn: "<T>", bos: "<S>"}
        return "".join(names.get(i) or self.codec.token_bytes(i).decode() for i in ids)


def given(*nodes: Node) -> list[list[str]]:
    file = header(trained("bpe"))
    file.metadata["tokenizer.chat_template"] = TEMPLATE
    codec = SentencePieceTokenizer.from_header(file)
    engine = Watched(codec)
    driver = Driver(engine, codec=codec)
    driver.program(*nodes)
    driver.run()
    return list(engine.given.values())


GEN = Gen(0, 0, 1, Sampling(max_tokens=2))


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ((Text(0, "one"), Text(0, " two"), GEN), ["<S> one two", "*"]),
        ((Text(0, " one"), GEN), ["<S>  one", "*"]),
        ((GEN, Text(0, "one"), Gen(0, 1, 1, Sampling(max_tokens=1))), ["<S>", "*", "one", "*"]),
        ((Text(0, "a"), Special(0, TURN), Text(0, "b"), GEN), ["<S> a<T> b", "*"]),
        ((Special(0, TURN), Text(0, "b"), GEN), ["<T> b", "*"]),
        (
            (Role(0, "user", "begin"), Text(0, "hi"), Role(0, "user", "end"), GEN),
            ["<T> hi<T>", "*"],
        ),
        ((Text(0, "a"), Select(0, 0, 1, ("b", "c"))), ["<S> a", "b|c"]),
        # The space is a token of its own before these letters, so it is no part of the choices.
        ((Special(0, TURN), Select(0, 0, 1, ("b", "c"))), ["<T> ", "b|c"]),
    ],
)
def test_a_text_behind_nothing_or_a_control_token_gets_its_space(
    nodes: tuple[Node, ...], expected: list[str]
) -> None:
    assert given(*nodes) == [expected]


def test_children_stand_where_their_parent_was() -> None:
    fork = Fork(0, (1, 2))
    grown = (Text(1, "b"), Gen(1, 0, 1, Sampling(max_tokens=1)))
    assert given(Special(0, TURN), fork, *grown)[1] == [" b", "*"]
    assert given(Special(0, TURN), Text(0, "a"), fork, *grown)[1] == ["b", "*"]


def test_a_scored_text_begins_as_it_would_on_the_branch() -> None:
    assert given(Special(0, TURN), Score(0, 0, "yes"))[0] == ["<T> ", "yes"]
    assert given(Text(0, "a "), Score(0, 0, "yes"))[0][-1].strip() == "yes"
