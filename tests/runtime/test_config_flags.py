"""Options: from callers, from the environment, and how they are refused."""

from __future__ import annotations

import pytest

from furcate.errors import UsageError
from furcate.runtime.config import Config, config_flags, from_json, resolve, to_json


def test_without_options_everything_has_its_default() -> None:
    assert resolve({}, {"HOME": "/nowhere"}) == Config()


def test_an_option_wins_over_its_variable_and_the_variable_over_the_default() -> None:
    environ = {"FURCATE_MAX_ROWS": "3", "FURCATE_PAGE_SIZE": "8"}
    config = resolve({"max_rows": 5}, environ)
    assert config.schedule.max_rows == 5
    assert config.cache.page_size == 8
    assert config.schedule.budget_tokens == Config().schedule.budget_tokens


@pytest.mark.parametrize(
    ("text", "value"),
    [("65536", 65536), ("512MiB", 512 * 2**20), ("1.5 GiB", 3 * 2**29), ("2gb", 2 * 10**9)],
)
def test_bytes_may_have_a_unit(text: str, value: int) -> None:
    assert resolve({}, {"FURCATE_KV_BYTES": text}).cache.kv_bytes == value
    assert resolve({"kv_bytes": text}, {}).cache.kv_bytes == value


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("yes", True), ("False", False), ("off", False)]
)
def test_a_switch_is_read_from_words(text: str, value: bool) -> None:
    assert resolve({}, {"FURCATE_CHECK_INVARIANTS": text}).schedule.check_invariants is value


@pytest.mark.parametrize(
    ("options", "environ", "message"),
    [
        ({"max_rows": 0}, {}, "--max-rows must be at least 1, got 0"),
        ({"max_rows": True}, {}, "--max-rows must be of type int, got True"),
        ({"matmul": "f8"}, {}, "--matmul must be one of auto, int8, bf16, fp32; got 'f8'"),
        ({"kv_dtype": "f8"}, {}, "--kv-dtype must be one of auto, bf16, int8, fp32; got 'f8'"),
        (
            {"kernels": "sse"},
            {},
            "--kernels must be one of auto, avx512, avx2, portable, reference",
        ),
        ({"pin_threads": 1}, {}, "--pin-threads must be of type bool, got 1"),
        ({"dtype": "float32"}, {}, "there is no option 'dtype'"),
        ({"model": None}, {}, "--model must be of type str, got None"),
        ({"kv_bites": 1}, {}, "there is no option 'kv_bites': did you mean 'kv_bytes'?"),
        ({"foo": 1}, {}, "there is no option 'foo': there are address, budget_tokens,"),
        ({}, {"FURCATE_MAX_ROWS": "many"}, "FURCATE_MAX_ROWS must be of type int, got 'many'"),
        ({}, {"FURCATE_KV_BYTES": "big"}, "FURCATE_KV_BYTES must be a number of bytes"),
        ({}, {"FURCATE_CHECK_INVARIANTS": "si"}, "must be true or false, got 'si'"),
        ({}, {"FURCATE_MAXROWS": "3"}, "did you mean 'FURCATE_MAX_ROWS'?"),
    ],
)
def test_what_cannot_stand_is_refused_by_name(
    options: dict[str, str | int | None], environ: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(options, environ)
    assert message in str(caught.value)


def test_numbers_and_kernels_are_options_like_any_other() -> None:
    environ = {"FURCATE_KERNELS": "reference", "FURCATE_PIN_THREADS": "1", "FURCATE_MATMUL": "bf16"}
    config = resolve({"kv_dtype": "bf16"}, environ)
    assert (config.engine.kernels, config.engine.pin_threads) == ("reference", True)
    assert (config.model.matmul, config.cache.kv_dtype) == ("bf16", "bf16")


def test_a_configuration_built_by_hand_is_checked_too() -> None:
    from furcate.runtime.config import CacheConfig

    with pytest.raises(UsageError, match="--page-size must be at least 1, got -1"):
        Config(cache=CacheConfig(page_size=-1))


def test_each_field_is_one_flag_with_a_help_line() -> None:
    flags = config_flags()
    assert len({flag.name for flag in flags}) == len(flags)
    assert all(flag.help.endswith(".") for flag in flags)


def test_a_configuration_survives_the_way_to_another_process() -> None:
    config = resolve({"kv_bytes": 2**20, "address": "ipc:///run/x.sock"}, {})
    assert from_json(to_json(config)) == config
