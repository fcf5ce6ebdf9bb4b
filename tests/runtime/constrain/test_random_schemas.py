"""Random schemas: either refused with a reason, or every walk through the masks is valid."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from furcate.errors import ConstraintError
from furcate.runtime.constrain.check import check_output

NAMES = ["a", "b", "ab", 'q"\\', "é"]
CONSTANTS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.sampled_from([0.5, -1.25, 1e-7]),
    st.text(max_size=4),
    st.lists(st.integers(0, 9), max_size=2),
)


def optional(**keywords):
    return st.fixed_dictionaries({}, optional=keywords)


def merged(*parts):
    return st.tuples(*parts).map(lambda found: {k: v for part in found for k, v in part.items()})


LEAVES = st.one_of(
    st.sampled_from([{}, {"type": "boolean"}, {"type": "null"}, {"type": ["integer", "null"]}]),
    st.fixed_dictionaries({"const": CONSTANTS}),
    st.fixed_dictionaries({"enum": st.lists(CONSTANTS, min_size=1, max_size=3)}),
    merged(
        st.just({"type": "integer"}),
        optional(
            minimum=st.integers(-50, 0),
            maximum=st.integers(0, 50),
            exclusiveMinimum=st.integers(-90, -1),
            multipleOf=st.integers(1, 4),
        ),
    ),
    merged(
        st.just({"type": "number"}),
        optional(minimum=st.sampled_from([-2.5, 0]), exclusiveMaximum=st.sampled_from([1, 7.25])),
    ),
    merged(
        st.just({"type": "string"}),
        optional(
            minLength=st.integers(0, 2),
            maxLength=st.integers(2, 5),
            pattern=st.sampled_from(["^[ab]*$", "a", "^.?$", "\\\\d$"]),
        ),
    ),
    st.sampled_from(["date", "uuid", "ipv4", "email", "time"]).map(
        lambda name: {"type": "string", "format": name}
    ),
)


def containers(children):
    properties = st.dictionaries(st.sampled_from(NAMES), children, max_size=3)
    return st.one_of(
        merged(
            st.just({"type": "object"}),
            properties.flatmap(
                lambda found: merged(
                    st.just({"properties": found}),
                    optional(
                        required=st.lists(st.sampled_from(sorted(found) or ["a"]), unique=True),
                        additionalProperties=st.one_of(st.just(False), children),
                        minProperties=st.integers(0, 1),
                        maxProperties=st.integers(2, 4),
                    ),
                )
            ),
        ),
        merged(
            st.just({"type": "array"}),
            optional(
                items=children,
                prefixItems=st.lists(children, min_size=1, max_size=2),
                minItems=st.integers(0, 2),
                maxItems=st.integers(2, 3),
            ),
        ),
        st.fixed_dictionaries({"additionalProperties": children, "type": st.just("object")}),
        st.lists(children, min_size=1, max_size=3).map(lambda found: {"anyOf": found}),
        st.lists(children, min_size=1, max_size=2).map(lambda found: {"oneOf": found}),
        st.lists(children, min_size=1, max_size=2).map(lambda found: {"allOf": found}),
    )


SCHEMAS = st.recursive(LEAVES, containers, max_leaves=6)


@settings(max_examples=60, deadline=None)
@given(
    schema=SCHEMAS,
    whitespace=st.sampled_from(["compact", "bounded", "free"]),
    engine=st.sampled_from(["auto", "auto", "llguidance", "xgrammar"]),
    seed=st.integers(0, 1_000),
)
def test_a_schema_is_refused_or_every_walk_is_valid(
    merging_bench, make_schema_constraint, schema, whitespace, engine, seed
):
    constraint = make_schema_constraint(schema, whitespace=whitespace, engine=engine)
    try:
        grammar = merging_bench.grammar(constraint)
    except ConstraintError:
        return
    for offset in range(3):
        walk = merging_bench.walk(grammar, seed + offset, max_tokens=400)
        if walk.is_complete:
            assert check_output(constraint, walk.text.decode()) is None, walk.text
