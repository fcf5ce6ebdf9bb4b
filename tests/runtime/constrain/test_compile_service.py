"""The compile service: tickets, cache, and a worker process that may be killed at any time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import psutil
import pytest

from furcate.errors import ConstraintError, Overloaded
from furcate.protocol.constraint import Constraint
from furcate.runtime.constrain.service import CompileLimits, CompileService
from furcate.runtime.tokenize.byte_level import ByteTokenizer

INTEGER = Constraint(kind="json_schema", body='{"type":"integer"}')
VOCAB_SIZE = 300


@pytest.fixture
def inline():
    return CompileService(ByteTokenizer(), VOCAB_SIZE, workers=False)


@pytest.fixture(scope="module")
def service():
    with_worker = CompileService(ByteTokenizer(), VOCAB_SIZE)
    yield with_worker
    with_worker.close()


def settled(service, constraint):
    ticket = service.request(constraint)
    assert ticket.wait(60)
    return ticket


def body(number):
    return Constraint(kind="json_schema", body=f'{{"const":{number}}}')


def test_without_workers_a_ticket_is_ready_at_once(inline):
    ticket = inline.request(INTEGER)
    assert ticket.ready
    assert ticket.error is None
    assert ticket.grammar.matcher([258]).accept(ord("7"))
    assert inline.worker_pid is None


def test_the_same_constraint_is_compiled_once(inline):
    assert inline.request(INTEGER).grammar is inline.request(INTEGER).grammar


def test_a_refusal_is_remembered(inline):
    wrong = Constraint(kind="regex", body="(")
    first, second = inline.request(wrong), inline.request(wrong)
    assert isinstance(first.error, ConstraintError)
    assert second.error is first.error
    assert first.grammar is None


def test_a_refusal_carries_the_pointer(inline):
    ticket = inline.request(Constraint(kind="json_schema", body='{"items":{"not":{}}}'))
    assert ticket.error.pointer == "/items/not"


def test_the_cache_stays_within_its_bytes_over_many_constraints():
    limits = CompileLimits(cache_bytes=20_000)
    inline = CompileService(ByteTokenizer(), VOCAB_SIZE, workers=False, limits=limits)
    for number in range(40):
        assert inline.request(body(number)).error is None
        assert inline.request(Constraint(kind="regex", body="(" * (number + 1))).error is not None
        assert inline.cache.num_bytes <= 20_000
    assert len(inline.cache) > 1


@pytest.mark.parametrize("options", [{"whitespace": "compact"}, {"engine": "llguidance"}])
def test_options_are_part_of_the_key(inline, options):
    other = Constraint(kind="json_schema", body=INTEGER.body, **options)
    assert inline.request(other).grammar is not inline.request(INTEGER).grammar


def test_a_body_that_is_no_text_is_refused_without_compiling(inline):
    assert isinstance(
        inline.request(Constraint(kind="regex", body="\ud800")).error, ConstraintError
    )


@pytest.mark.slow
def test_a_worker_compiles_for_both_engines(service):
    for constraint in (
        INTEGER,
        Constraint(kind="json_schema", body='{"type":"string","maxLength":2}'),
        Constraint(kind="regex", body="a+"),
        Constraint(kind="ebnf", body='root ::= "a"'),
        Constraint(kind="lark", body='start: "a"'),
    ):
        ticket = settled(service, constraint)
        assert ticket.error is None
        assert not ticket.grammar.matcher([258]).is_accepting
        assert service.request(constraint).ready
    assert service.num_worker_starts == 1


@pytest.mark.slow
def test_each_waiting_ticket_is_announced_once_and_joined_by_its_like():
    announced, done = [], threading.Event()

    def on_ready(ticket):
        announced.append(ticket)
        if len(announced) == 3:
            done.set()

    service = CompileService(ByteTokenizer(), VOCAB_SIZE, on_ready=on_ready)
    try:
        tickets = [service.request(body(number)) for number in range(3)]
        assert not any(ticket.ready for ticket in tickets)
        assert service.request(body(1)) is tickets[1]
        assert done.wait(60)
        assert announced == tickets
    finally:
        service.close()


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_costs_one_request(service, signal_number):
    constraint = body(100 + signal_number)
    settled(service, INTEGER)
    worker = psutil.Process(service.worker_pid)
    worker.send_signal(signal.SIGSTOP)
    lost = service.request(constraint)
    worker.send_signal(signal_number)
    worker.send_signal(signal.SIGCONT)
    assert lost.wait(60)
    assert isinstance(lost.error, ConstraintError)
    assert "too complex" in str(lost.error)
    assert settled(service, body(200 + signal_number)).error is None
    assert service.worker_pid != worker.pid
    # A crash would come again; a kill from outside says nothing about the constraint.
    assert (settled(service, constraint).error is None) == (signal_number == signal.SIGKILL)


@pytest.mark.slow
def test_a_compilation_that_takes_too_long_is_killed():
    service = CompileService(ByteTokenizer(), VOCAB_SIZE, limits=CompileLimits(wall_s=0.5))
    try:
        assert settled(service, INTEGER).error is None
        pid = service.worker_pid
        os.kill(pid, signal.SIGSTOP)
        assert "not compiled after 0.5 s" in str(settled(service, body(1)).error)
        assert not psutil.pid_exists(pid)
        assert settled(service, body(2)).error is None
    finally:
        service.close()


@pytest.mark.slow
def test_a_closed_service_refuses_what_waits_and_leaves_no_process():
    service = CompileService(ByteTokenizer(), VOCAB_SIZE)
    settled(service, INTEGER)
    pid = service.worker_pid
    os.kill(pid, signal.SIGSTOP)
    waiting = [service.request(body(number)) for number in range(3)]
    service.close()
    service.close()
    assert all(isinstance(ticket.error, Overloaded) for ticket in waiting)
    assert not psutil.pid_exists(pid)
    assert isinstance(service.request(body(9)).error, Overloaded)
    assert service.request(INTEGER).error is None  # what is known is still served


@pytest.mark.slow
def test_a_queue_that_is_full_refuses():
    service = CompileService(ByteTokenizer(), VOCAB_SIZE, limits=CompileLimits(max_waiting=2))
    try:
        settled(service, INTEGER)
        os.kill(service.worker_pid, signal.SIGSTOP)
        tickets = [service.request(body(number)) for number in range(5)]
        assert isinstance(tickets[-1].error, Overloaded)
        assert tickets[-1].error.retryable
    finally:
        service.close()


@pytest.mark.slow
def test_a_worker_goes_when_its_parent_is_killed():
    program = (
        "from furcate.protocol.constraint import Constraint\n"
        "from furcate.runtime.constrain.service import CompileService\n"
        "from furcate.runtime.tokenize.byte_level import ByteTokenizer\n"
        "service = CompileService(ByteTokenizer(), 300)\n"
        "ticket = service.request(Constraint(kind='regex', body='a'))\n"
        "ticket.wait(60)\n"
        "print(service.worker_pid, flush=True)\n"
        "input()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as parent:
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    psutil.wait_procs([worker], timeout=10)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
