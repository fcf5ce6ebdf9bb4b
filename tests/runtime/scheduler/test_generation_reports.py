"""What a generation gives out while it runs is never taken back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import Generate
from furcate.runtime.scheduler.generation import Generation

PIECES = (b"a", b"b", b"ab", b"ba", b"aab", b"", b"abba")
END_ID = len(PIECES)


@given(
    st.lists(st.integers(0, END_ID), max_size=12),
    st.lists(st.sampled_from([b"ab", b"bab", b"aa", b"abbab"]), unique=True, max_size=3),
    st.integers(0, 4),
    st.integers(1, 8),
)
def test_reported_tokens_are_the_beginning_of_those_kept(
    token_ids: list[int], stops: list[bytes], min_tokens: int, max_tokens: int
) -> None:
    sampling = Sampling(max_tokens=max_tokens, min_tokens=min(min_tokens, max_tokens))
    active = Generation(Generate(sampling, 1, tuple(stops), (END_ID,)), 0, max_tokens, None)
    reported: list[int] = []
    outcome = None
    for token_id in token_ids:
        if token_id in active.banned_at(active.index):
            continue
        outcome = active.take(token_id, (*PIECES, b"")[token_id], None)
        if outcome is not None:
            break
        reported += active.unreported()
    kept = active.ids if outcome is None else active.ids[: outcome.kept]
    assert reported == kept[: len(reported)]
    if outcome is not None and outcome.matched is not None:
        text = b"".join(PIECES[i] for i in active.ids)
        whole = b"".join(PIECES[i] for i in kept) + outcome.tail
        assert text.startswith(whole + outcome.matched)
