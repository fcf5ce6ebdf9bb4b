"""Constraints made to hurt: each is refused or harmless, and the next one compiles."""

from __future__ import annotations

import json

import psutil
import pytest

from furcate.errors import ConstraintError
from furcate.protocol.constraint import Constraint
from furcate.runtime.constrain.service import CompileLimits, CompileService
from furcate.runtime.tokenize.byte_level import ByteTokenizer

pytestmark = pytest.mark.slow


def nested(levels):
    return '{"type":"object","properties":{"a":' * levels + "{}" + "}}" * levels


def chain(rules):
    links = "".join(f"r{i} ::= r{i + 1}\n" for i in range(rules))
    return f'root ::= r0\n{links}r{rules} ::= "a"'


REFUSED = {
    "100 nested objects": ("json_schema", nested(100)),
    "50,000 nested objects": ("json_schema", nested(10_000)),
    "60,000 parentheses": ("regex", "(" * 60_000),
    "2,000 parentheses": ("regex", "(" * 2_000 + "a" + ")" * 2_000),
    "60,000 parentheses in a grammar": ("ebnf", "root ::= " + "(" * 60_000),
    "60,000 rules": ("ebnf", chain(20_000)),
    "20,000 values": ("json_schema", json.dumps({"enum": [f"v{i}" for i in range(20_000)]})),
    "nested repetitions": ("regex", "((a{1,1000}){1,1000}){1,1000}"),
    "nested repetitions in a grammar": ("ebnf", 'root ::= (("a"{1,1000}){1,1000}){1,1000}'),
    "nested stars in a grammar": ("ebnf", 'root ::= ("a"*)*"b"'),
    "self reference": ("json_schema", '{"$defs":{"a":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}'),
    "rule of itself": ("ebnf", "root ::= root"),
    "lark rule of itself": ("lark", "start: start"),
    "control token by name": ("lark", "start: <|im_end|>"),
    "unique items": ("json_schema", '{"type":"array","uniqueItems":true}'),
    "negation": ("json_schema", '{"not":{"type":"string"}}'),
    "empty intersection": ("json_schema", '{"allOf":[{"type":"string"},{"type":"integer"}]}'),
    "empty enumeration": ("json_schema", '{"enum":[]}'),
    "empty range": ("json_schema", '{"type":"integer","minimum":5,"maximum":3}'),
    "look-ahead": ("regex", "(?=a)b"),
    "back-reference": ("regex", r"(a)\1"),
    "unclosed": ("regex", "["),
    "null character": ("regex", "a\0"),
    "unclosed literal": ("ebnf", 'root ::= "a'),
    "undefined rule": ("ebnf", "root ::= x"),
    "not lark": ("lark", "%%%"),
    "bad pattern": ("json_schema", '{"type":"string","pattern":"("}'),
}
HARMLESS = {
    "a million times": ("regex", "a{1,1000000}"),
    "exponential automaton": ("regex", "[ab]*a[ab]{24}"),
    "nested stars": ("regex", "(a*)*b"),
    "two stars": ("regex", "foo**"),
    "4,999 values": ("json_schema", json.dumps({"enum": [f"v{i}" for i in range(4_999)]})),
    "40 nested objects": ("json_schema", nested(40)),
}


@pytest.fixture(scope="module")
def service():
    service = CompileService(ByteTokenizer(), 300, limits=CompileLimits(cpu_s=2.0, wall_s=20.0))
    yield service
    service.close()


def settled(service, kind, body):
    ticket = service.request(Constraint(kind=kind, body=body))
    assert ticket.wait(60)
    return ticket


@pytest.mark.parametrize(("kind", "body"), REFUSED.values(), ids=REFUSED.keys())
def test_a_hostile_constraint_is_refused_and_the_next_compiles(service, kind, body):
    error = settled(service, kind, body).error
    assert isinstance(error, ConstraintError)
    assert len(str(error)) < 600
    assert "furcate" not in str(error).replace("this version of furcate", "")
    assert settled(service, "json_schema", '{"type":"integer"}').error is None


@pytest.mark.parametrize(("kind", "body"), HARMLESS.values(), ids=HARMLESS.keys())
def test_a_constraint_that_only_looks_hostile_compiles(service, kind, body):
    assert settled(service, kind, body).error is None


def test_a_compilation_over_its_memory_ends_the_worker_and_nothing_else():
    limits = CompileLimits(memory_bytes=8 << 20)
    service = CompileService(ByteTokenizer(), 300, limits=limits)
    try:
        before = psutil.Process().memory_info().rss
        large = json.dumps({"enum": [f"value {i} " * 5 for i in range(4_500)]})
        error = settled(service, "json_schema", large).error
        assert isinstance(error, ConstraintError)
        assert settled(service, "regex", "a").error is None
        assert psutil.Process().memory_info().rss - before < 200 << 20
    finally:
        service.close()


def test_a_compilation_over_its_cpu_time_ends_the_worker_and_nothing_else():
    service = CompileService(ByteTokenizer(), 300, limits=CompileLimits(cpu_s=0.05))
    try:
        error = settled(service, "json_schema", nested(47)).error
        assert isinstance(error, ConstraintError)
        assert "too complex" in str(error)
        assert settled(service, "regex", "a").error is None
        assert service.num_worker_starts == 2
    finally:
        service.close()
