import subprocess
import sys

import pytest

import furcate as fc

_HEAVY = ("torch", "zmq", "transformers", "tokenizers", "pydantic", "rich", "xgrammar", "numpy")


@pytest.mark.slow
def test_import_furcate_loads_nothing_heavy():
    code = f"import furcate, sys; print([m for m in {_HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": ""},
    )
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists_and_says_what_it_is():
    for name in fc.__all__:
        assert hasattr(fc, name), name
        public = getattr(fc, name)
        if callable(public) and not (isinstance(public, type) and issubclass(public, Exception)):
            assert public.__doc__, name


def test_all_is_what_the_language_promises():
    promised = (
        "function gen gen_int gen_string select system user assistant system_begin system_end "
        "user_begin user_end assistant_begin assistant_end special join greedy_token_selection "
        "token_length_normalized unconditional_likelihood_normalized set_default_backend connect "
        "Engine Mock ProgramError UsageError Truncated ValidationFailed EngineLost __version__"
    )
    assert set(promised.split()) <= set(fc.__all__)
