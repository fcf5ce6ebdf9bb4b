"""The language: programs as Python functions, recorded as they run. Everything public is exported
by `furcate` itself; the modules here are private."""

from ._connect import Engine, connect
from ._default import set_default_backend
from ._expr import Expr
from ._fork_over import DynamicGroup
from ._function import Function, function
from ._gen import gen, gen_int, gen_string
from ._group import StateGroup
from ._info import flush_cache, get_server_info
from ._meta import Scores
from ._pin import Pinned
from ._reasoning import separate_reasoning
from ._ref import Ref, join
from ._results import StreamEvent
from ._role import (
    assistant,
    assistant_begin,
    assistant_end,
    system,
    system_begin,
    system_end,
    user,
    user_begin,
    user_end,
)
from ._score import Score
from ._select import (
    greedy_token_selection,
    select,
    token_length_normalized,
    unconditional_likelihood_normalized,
)
from ._special import special
from ._state import ProgramState
from ._stop import stop_loop
from ._switch import default
from .backend.mock import Mock, MockCall
from .backend.session import Session

__all__ = [
    "DynamicGroup",
    "Engine",
    "Expr",
    "Function",
    "Mock",
    "MockCall",
    "Pinned",
    "ProgramState",
    "Ref",
    "Score",
    "Scores",
    "Session",
    "StateGroup",
    "StreamEvent",
    "assistant",
    "assistant_begin",
    "assistant_end",
    "connect",
    "default",
    "flush_cache",
    "function",
    "gen",
    "gen_int",
    "gen_string",
    "get_server_info",
    "greedy_token_selection",
    "join",
    "select",
    "separate_reasoning",
    "set_default_backend",
    "special",
    "stop_loop",
    "system",
    "system_begin",
    "system_end",
    "token_length_normalized",
    "unconditional_likelihood_normalized",
    "user",
    "user_begin",
    "user_end",
]
