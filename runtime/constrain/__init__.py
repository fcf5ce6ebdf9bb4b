"""Constrained decoding: compile a constraint, walk it token by token, check what came out.

service = CompileService(tokenizer, vocab_size)
ticket = service.request(constraint)          # never blocks; later ticket.grammar or .error
matcher = ticket.grammar.matcher(stop_ids)    # one a stream
matcher.fill_mask(mask); matcher.accept(token_id); matcher.forced_tokens(last_ids)
OutputCheck(constraint).problem(text)         # None if the finished output fits
"""

from __future__ import annotations

from .base import Grammar, Matcher
from .check import OutputCheck, check_output
from .service import CompileLimits, CompileService, Ticket
from .vocabulary import Vocabulary

__all__ = [
    "CompileLimits",
    "CompileService",
    "Grammar",
    "Matcher",
    "OutputCheck",
    "Ticket",
    "Vocabulary",
    "check_output",
]
