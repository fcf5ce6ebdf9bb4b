"""Native paged attention: against an oracle in float64 and the torch reference, and its bits under
every cut into chunks, batch, page layout, number of threads and tier."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from furcate.kernels.elementwise.native import RowType
from furcate.kernels.paged_attention import AttentionShape, attend, plan_attention, write_kv
from furcate.kernels.paged_attention.native import KVType, PageMemory, Shape, Step, round_bf16

from .attention_world import (
    GARBAGE,
    PLAIN,
    Options,
    Sequence,
    Span,
    World,
    operation,
    oracle,
    sequence,
    step_of,
    world,
)
from .native import AVAILABLE, TIERS

EDGES = (1, 2, 15, 16, 17, 255, 256, 257, 511, 512, 513)
KV_TYPES = tuple(KVType)
# head_dim, group, page_size: every size of each once
SHAPES = (
    (16, 1, 16),
    (32, 2, 32),
    (64, 3, 16),
    (64, 4, 256),
    (80, 8, 64),
    (96, 1, 32),
    (128, 2, 256),
    (256, 3, 64),
    (16, 50, 16),  # more heads than a tile takes
)
SMALL = Shape(num_heads=6, kv_heads=2, head_dim=32, page_size=16, num_pages=0)


def assert_near(got: np.ndarray, wanted: np.ndarray) -> None:
    """Weights of bfloat16 are off by up to 2**-9 of themselves, and values are about 1."""
    np.testing.assert_allclose(got, wanted, rtol=0.01, atol=0.01)


def assert_same(got: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_array_equal(got.view(np.uint32), wanted.view(np.uint32))


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize(("head_dim", "group", "page_size"), SHAPES)
def test_every_shape_agrees_with_the_oracle(
    tier: str, kv_type: KVType, head_dim: int, group: int, page_size: int
) -> None:
    shape = Shape(2 * group, 2, head_dim, page_size, 0, kv_type)
    sequences = [sequence(shape, length, length) for length in (300, 17, 523)]
    spans = [Span(0, 286, 300), Span(1, 0, 17), Span(2, 522, 523)]
    got = world(tier, shape, sequences).rows(spans)
    for span, rows in zip(spans, got, strict=True):
        assert_near(rows, oracle(shape, sequences[span.sequence], span))


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_lengths_around_strips_pages_and_splits_agree_with_the_oracle(
    tier: str, kv_type: KVType
) -> None:
    shape = Shape(6, 2, 32, 16, 0, kv_type)
    sequences = [sequence(shape, length, length) for length in EDGES]
    spans = [Span(n, max(0, length - 3), length) for n, length in enumerate(EDGES)]
    got = world(tier, shape, sequences).rows(spans)
    for span, rows in zip(spans, got, strict=True):
        assert_near(rows, oracle(shape, sequences[span.sequence], span))


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize(
    "options",
    [
        Options(window=1),
        Options(window=5),
        Options(window=256),
        Options(window=299),
        Options(soft_cap=2.0),
        Options(soft_cap=30.0, window=100),
        Options(scale=2.0),
    ],
    ids=str,
)
def test_windows_caps_and_scales_agree_with_the_oracle(
    tier: str, kv_type: KVType, options: Options
) -> None:
    shape = Shape(6, 2, 32, 16, 0, kv_type)
    each = sequence(shape, 530, 1)
    spans = [Span(0, 250, 275), Span(0, 0, 20), Span(0, 529, 530)]
    here = world(tier, shape, [each])
    for span, rows in zip(spans, here.rows(spans, options), strict=True):
        assert_near(rows, oracle(shape, each, span, options))


def test_the_torch_reference_agrees() -> None:
    shape = Shape(6, 2, 32, 16, 64)
    sequences = [sequence(shape, length, length) for length in (40, 300, 257)]
    spans = [Span(0, 0, 40), Span(1, 290, 300), Span(2, 256, 257)]
    here = world(AVAILABLE[0], shape, sequences)
    got = np.concatenate(here.rows(spans))
    whole = [Span(n, 0, len(each)) for n, each in enumerate(sequences)]
    torch_shape = AttentionShape(6, 2, 32, 16)
    pages = [torch.zeros(here.shape.num_pages, 2, 16, 32, dtype=torch.bfloat16) for _ in range(2)]
    for chunk, is_written in ((whole, True), (spans, False)):
        step = step_of(chunk, [here.tables[span.sequence] for span in chunk], 16)
        plan = plan_attention(
            torch_shape, step.positions, step.row_starts, step.kv_lens, step.page_table
        )
        if is_written:
            write_kv(pages[0], torch.from_numpy(np.concatenate([s.keys for s in sequences])), plan)
            write_kv(
                pages[1], torch.from_numpy(np.concatenate([s.values for s in sequences])), plan
            )
            continue
        queries = np.concatenate([sequences[s.sequence].queries[s.begin : s.end] for s in spans])
        wanted = attend(torch.from_numpy(queries), pages[0], pages[1], plan, 32**-0.5)
        assert_near(got, wanted.reshape(len(got), -1).numpy())


@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_int8_pages_stay_near_the_numbers_they_stand_for(kv_type: KVType) -> None:
    shape = Shape(4, 2, 64, 16, 0, kv_type)
    each = sequence(shape, 400, 3)
    got = world(AVAILABLE[0], shape, [each]).rows([Span(0, 380, 400)])[0]
    exact = oracle(Shape(4, 2, 64, 16, 0), each, Span(0, 380, 400))
    bound = 0.01 if kv_type is KVType.BF16 else 0.06
    assert np.abs(got - exact).max() < bound


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("row_type", list(RowType))
@pytest.mark.parametrize(("head_dim", "group", "page_size"), SHAPES)
def test_all_tiers_give_the_same_bits(
    kv_type: KVType, row_type: RowType, head_dim: int, group: int, page_size: int
) -> None:
    shape = Shape(2 * group, 2, head_dim, page_size, 0, kv_type)
    sequences = [sequence(shape, length, length) for length in (130, 523)]
    spans = [Span(0, 100, 130), Span(1, 522, 523)]
    outs = [
        world(tier, shape, sequences).attend(spans, Options(soft_cap=20.0), row_type)
        for tier in AVAILABLE
    ]
    for out in outs[1:]:
        for one, other in zip(
            (outs[0].data, outs[0].scales, outs[0].sums),
            (out.data, out.scales, out.sums),
            strict=True,
        ):
            assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("row_type", [RowType.BF16, RowType.Q8])
@pytest.mark.parametrize("head_dim", [16, 64, 80])
def test_rows_are_rounded_and_quantised_as_elsewhere(row_type: RowType, head_dim: int) -> None:
    shape = Shape(6, 2, head_dim, 16, 0)
    here = world(AVAILABLE[0], shape, [sequence(shape, 40, 1)])
    values = here.attend([Span(0, 0, 40)]).data
    got = here.attend([Span(0, 0, 40)], row_type=row_type)
    if row_type is RowType.BF16:
        np.testing.assert_array_equal(got.data, round_bf16(values))
    else:
        restored = got.data.reshape(40, -1, 32) * got.scales[..., None]
        assert np.abs(restored.reshape(40, -1) - values).max() < np.abs(values).max() / 250


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("options", [PLAIN, Options(window=70), Options(soft_cap=5.0)], ids=str)
def test_a_row_has_the_same_bits_however_it_is_computed(
    tier: str, kv_type: KVType, options: Options
) -> None:
    shape = Shape(6, 2, 32, 16, 0, kv_type)
    lengths = (533, 40, 300)
    sequences = [sequence(shape, length, length) for length in lengths]
    whole = [Span(n, 0, length) for n, length in enumerate(lengths)]
    wanted = world(tier, shape, sequences).rows(whole, options)
    for num_threads, page_seed, fill in ((1, 1, 0), (5, 2, GARBAGE)):
        here = world(tier, shape, sequences, num_threads, page_seed, fill=fill)
        for one, span in zip(wanted, whole, strict=True):
            assert_same(here.rows([span], options)[0], one)
        for cuts in ((0, 1, 255, 256, 258, 533), (0, 17, 300, 301, 302, 500, 531, 532, 533)):
            chunks = [Span(0, *cut) for cut in itertools.pairwise(cuts)]
            in_one_step = here.rows([*chunks, Span(1, 39, 40), Span(2, 20, 300)], options)
            assert_same(np.concatenate(in_one_step[:-2]), wanted[0])
            assert_same(in_one_step[-2], wanted[1][39:])
            assert_same(in_one_step[-1], wanted[2][20:])
            assert_same(
                np.concatenate([here.rows([span], options)[0] for span in chunks]), wanted[0]
            )


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("page_size", [16, 256])
def test_rows_that_share_pages_have_the_bits_of_rows_that_do_not(
    tier: str, kv_type: KVType, page_size: int
) -> None:
    shape = Shape(6, 2, 32, page_size, 0, kv_type)
    prefix = sequence(shape, 512, 0)
    sequences = [sequence(shape, n + 1, n).after(prefix) for n in range(9)]
    spans = [Span(n, len(each) - 1, len(each)) for n, each in enumerate(sequences)]
    spans[4] = Span(4, 512, len(sequences[4]))  # several tokens
    apart = world(tier, shape, sequences)
    together = world(tier, shape, sequences, shared=512)
    assert len(apart.num_tasks(spans)) == 1
    assert len(together.num_tasks(spans)) == 2
    for options in (PLAIN, Options(window=300)):
        for one, other in zip(
            apart.rows(spans, options), together.rows(spans, options), strict=True
        ):
            assert_same(one, other)


@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_rows_that_part_one_after_the_other_share_what_they_have_in_common(
    kv_type: KVType,
) -> None:
    """A tree: all share one split, some two, two of them three; one row is of another text."""
    shape = Shape(6, 2, 32, 16, 0, kv_type)
    splits = [sequence(shape, 256, seed) for seed in range(3)]
    ends = [sequence(shape, 30 + n, 100 + n) for n in range(7)]
    one, two = splits[0], splits[1].after(splits[0])
    three = splits[2].after(two)
    prefixes = [one, one, two, two, three, three, splits[1]]
    sequences = [end.after(prefix) for end, prefix in zip(ends, prefixes, strict=True)]
    apart = world(AVAILABLE[0], shape, sequences)
    together = world(AVAILABLE[0], shape, sequences)
    first_with: dict[bytes, np.ndarray] = {}
    for table, prefix in zip(together.tables, prefixes, strict=True):
        for split in range(len(prefix) // 256):
            text = prefix.keys[: (split + 1) * 256].tobytes()
            pages = slice(split * 16, (split + 1) * 16)
            table[pages] = first_with.setdefault(text, table[pages].copy())
    spans = [Span(n, len(each) - 2, len(each)) for n, each in enumerate(sequences)]
    assert together.num_tasks(spans)[:-1] == [6]  # three splits of two kv heads
    for got, wanted in zip(together.rows(spans), apart.rows(spans), strict=True):
        assert_same(got, wanted)


@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_a_long_row_has_the_same_bits_on_one_thread_and_cut_for_many(kv_type: KVType) -> None:
    shape = Shape(3, 1, 32, 16, 0, kv_type)
    each = sequence(shape, 1500, 1)
    span = Span(0, 1498, 1500)
    alone, cut = (world(AVAILABLE[0], shape, [each], num_threads) for num_threads in (1, 5))
    assert len(alone.num_tasks([span])) == 1
    assert len(cut.num_tasks([span])) == 2
    for options in (PLAIN, Options(window=600)):
        assert_same(cut.rows([span], options)[0], alone.rows([span], options)[0])
    assert_near(cut.rows([span])[0], oracle(shape, each, span))


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("broken", [np.inf, np.nan])
def test_a_broken_token_changes_nothing_before_it(
    tier: str, kv_type: KVType, broken: float
) -> None:
    shape = Shape(6, 2, 32, 16, 0, kv_type)
    each = sequence(shape, 280, 1)
    spans = [Span(0, 0, 280)]
    wanted = world(tier, shape, [each]).rows(spans)[0]
    for place in (101, 270):
        keys, values = each.keys.copy(), each.values.copy()
        keys[place, :, 3] = broken
        values[place, :, 5] = broken
        got = world(tier, shape, [Sequence(each.queries, keys, values)]).rows(spans)[0]
        assert_same(got[:place], wanted[:place])
        assert np.isnan(got[place:].reshape(280 - place, 6, 32)[..., 5]).all()


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_a_broken_token_that_left_the_window_changes_nothing(tier: str, kv_type: KVType) -> None:
    shape = Shape(6, 2, 32, 16, 0, kv_type)
    each = sequence(shape, 320, 1)
    options = Options(window=20)
    wanted = world(tier, shape, [each]).rows([Span(0, 0, 320)], options)[0]
    values = each.values.copy()
    values[280, :, 5] = np.nan
    here = world(tier, shape, [Sequence(each.queries, each.keys, values)])
    for span in (Span(0, 0, 320), Span(0, 300, 301), Span(0, 299, 302), Span(0, 301, 320)):
        got = here.rows([span], options)[0]
        for row, position in zip(got, range(span.begin, span.end), strict=True):
            if 280 <= position < 300:
                assert np.isnan(row[5])
            else:
                assert_same(row, wanted[position])


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_writes_and_copies_touch_their_slots_alone(tier: str, kv_type: KVType) -> None:
    shape = Shape(4, 2, 32, 16, 4, kv_type)
    op = operation(tier, 2)
    one, other = sequence(shape, 16, 1), sequence(shape, 16, 2)

    def written(parts: list[tuple[Sequence, int, int, int]]) -> PageMemory:
        pages = op.allocate(shape)
        for each, page, begin, end in parts:
            step = step_of([Span(0, begin, end)], [np.array([page])], 16)
            op.write(shape, pages, step, each.keys[begin:end], each.values[begin:end])
        return pages

    for count in (0, 1, 2, 7, 15, 16):
        copied = written([(one, 0, 0, 16), (other, 1, 0, 16)])
        op.copy(shape, copied, [(0, 1, count), (1, 3, 16)])
        wanted = written(
            [
                (one, 0, 0, 16),
                *(
                    (each, page, *part)
                    for page in (1, 3)
                    for each, part in split_at(one, other, count)
                ),
            ]
        )
        for got, expected in zip(bytes_of(copied), bytes_of(wanted), strict=True):
            assert got == expected


def split_at(one: Sequence, other: Sequence, count: int) -> list[tuple[Sequence, tuple[int, int]]]:
    """The first `count` tokens of one sequence and the rest of the other."""
    parts = [(one, (0, count)), (other, (count, 16))]
    return [(each, part) for each, part in parts if part[0] < part[1]]


def bytes_of(pages: PageMemory) -> list[bytes]:
    arrays = (pages.keys, pages.values, pages.key_scales, pages.value_scales)
    return [array.tobytes() for array in arrays]


def test_a_step_without_tokens_has_no_tasks() -> None:
    here = world(AVAILABLE[0], SMALL, [sequence(SMALL, 5, 1)])
    empty = Step(
        np.zeros(2, np.int32), np.zeros(0, np.int32), np.zeros(1, np.int32), here.tables[0][None]
    )
    plan = here.op.plan(here.shape)
    plan.make(empty, 2)
    assert plan.num_tasks == [0]
    plan.close()
    plan.close()


SPANS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 600), st.integers(1, 60)), min_size=1, max_size=8
)


@functools.cache
def family(kv_type: KVType, shared: int) -> World:
    """Four texts with the same beginning."""
    shape = Shape(6, 2, 16, 16, 0, kv_type)
    prefix = sequence(shape, 544, 0)
    sequences = [sequence(shape, 56 + 20 * n, n + 1).after(prefix) for n in range(4)]
    return world(AVAILABLE[0], shape, sequences, 2, shared, shared)


@functools.cache
def whole_text(kv_type: KVType, window: int, number: int) -> np.ndarray:
    here = family(kv_type, 0)
    whole = Span(number, 0, len(here.sequences[number]))
    return here.rows([whole], Options(window=window))[0]


@settings(deadline=None, max_examples=60)
@given(SPANS, st.sampled_from(KV_TYPES), st.sampled_from([0, 240, 512]), st.sampled_from([0, 37]))
def test_ragged_batches_have_the_bits_of_whole_texts(
    drawn: list[tuple[int, int, int]], kv_type: KVType, shared: int, window: int
) -> None:
    here = family(kv_type, shared)
    spans = []
    for number, begin, length in drawn:
        end = min(begin + length, len(here.sequences[number]))
        spans.append(Span(number, min(begin, end - 1), end))
    for span, rows in zip(spans, here.rows(spans, Options(window=window)), strict=True):
        assert_same(rows, whole_text(kv_type, window, span.sequence)[span.begin : span.end])
