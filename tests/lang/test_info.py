"""Questions about a backend, and emptying its cache."""

import pytest
from tests.fakes.in_process import context_session

import furcate as fc

pytestmark = pytest.mark.timeout(20)


@fc.function
def says(s, text):
    s += text
    s += fc.gen("answer", max_tokens=4)


@pytest.fixture
def backend():
    with context_session() as session:
        yield session


def test_the_facts_say_what_serves_and_how_busy_it_is(backend):
    before = fc.get_server_info(backend)
    says.run("Some text that takes a few pages of the cache.", backend=backend)
    after = fc.get_server_info(backend)
    assert after["backend"] == "server"
    assert after["version"] == fc.__version__
    assert after["model"] == "test"
    assert after["context"] == 4096
    assert after["protocol"] == 2
    assert after["clients"] == 1
    assert after["programs"] == after["streams"] == 0
    assert after["cache_tokens_total"] == 256 * 16
    assert after["cache_tokens_free"] < before["cache_tokens_free"] == 256 * 16
    assert after["cache_tokens_reusable"] > 45
    assert after["steps"] > before["steps"]
    assert 0.0 <= before["uptime_s"] <= after["uptime_s"]


def test_flushing_the_cache_costs_nothing_but_computing_again(backend):
    first = says.run("The same text for both of them.", backend=backend, seed=1)
    facts = fc.flush_cache(backend)
    assert facts["cache_tokens_reusable"] == 0
    assert facts["cache_tokens_free"] == facts["cache_tokens_total"]
    again = says.run("The same text for both of them.", backend=backend, seed=1)
    assert again["answer"] == first["answer"]
    assert again.get_meta_info("answer")["cached_tokens"] == 0


def test_flushing_while_programs_run_changes_nothing_for_them(backend):
    @fc.function
    def long(s):
        s += "Once upon a time"
        for number in range(6):
            s += fc.gen(f"part_{number}", max_tokens=8)
            s["part_0"]
            if number == 3:
                fc.flush_cache(backend)

    @fc.function
    def plain(s):
        s += "Once upon a time"
        for number in range(6):
            s += fc.gen(f"part_{number}", max_tokens=8)

    assert long.run(backend=backend, seed=5).text() == plain.run(backend=backend, seed=5).text()


def test_the_default_backend_is_asked_where_none_is_named(backend):
    fc.set_default_backend(backend)
    try:
        assert fc.get_server_info()["model"] == "test"
    finally:
        fc.set_default_backend(None)
    with pytest.raises(fc.UsageError, match="no backend"):
        fc.get_server_info()


def test_a_mock_and_an_engine_tell_what_they_are():
    with fc.Mock("x") as mock:
        facts = fc.get_server_info(mock)
        assert (facts["backend"], facts["model"]) == ("mock", "mock")
        assert fc.flush_cache(mock)["programs"] == 0
    with fc.Engine("test:context", kv_bytes=2**20, threads=1) as engine:
        assert fc.get_server_info(engine)["backend"] == "engine"


def test_no_fact_names_a_path_or_a_text(backend):
    says.run("a secret", backend=backend)
    assert not [fact for fact in fc.get_server_info(backend).values() if "/" in str(fact)]
    assert "secret" not in str(fc.get_server_info(backend))


def test_a_backend_that_is_closed_says_so():
    session = context_session()
    session.close()
    with pytest.raises(fc.UsageError, match="closed"):
        fc.get_server_info(session)
