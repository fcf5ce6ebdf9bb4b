"""Short ways to say what a test sends to a scheduler, and to read what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import Append, End, Extend, Generate, NodeDone, OpenStream, StreamNode
from furcate.runtime.config import ScheduleConfig
from furcate.runtime.constrain.service import CompileService, Ticket
from furcate.runtime.testing import ContextModel, StepEngine, make_scheduler
from furcate.runtime.tokenize.byte_level import ByteTokenizer

if TYPE_CHECKING:
    from furcate.protocol.constraint import Constraint
    from furcate.runtime.clock import Clock
    from furcate.runtime.engine.batch import Model
    from furcate.runtime.scheduler.masks import MaskFiller

END_ID = 258


class SlowCompiler(CompileService):
    """Compiles at once and says so only when it is told to."""

    def __init__(self) -> None:
        super().__init__(ByteTokenizer(), 259, workers=False)
        self.held: list[tuple[Ticket, Ticket]] = []  # what was given out, and what it will say

    def request(self, constraint: Constraint) -> Ticket:
        given = Ticket(constraint)
        self.held.append((given, super().request(constraint)))
        return given

    def finish(self) -> None:
        """The oldest compilation that is held is over."""
        given, compiled = self.held.pop(0)
        given._settle(compiled.grammar or compiled.error)  # type: ignore[arg-type]


def text(words: str) -> Extend:
    return Extend(tuple(words.encode()))


def generate(
    max_tokens: int = 20,
    *,
    seed: int = 7,
    temperature: float = 0.0,
    stops: tuple[bytes, ...] = (),
    constraint: int | None = None,
    report: bool = False,
    min_tokens: int = 0,
    logprobs: int | None = None,
    prompt_logprobs: int | None = None,
    site: int = 0,
) -> Generate:
    sampling = Sampling(
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        temperature=temperature,
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
    )
    return Generate(sampling, seed, stops, (END_ID,), constraint, report, site)


def engine(
    model: Model | None = None,
    *,
    num_pages: int = 256,
    page_size: int = 16,
    max_rows: int = 64,
    budget_tokens: int = 512,
    jump_forward: bool = True,
    check_invariants: bool = True,
    constraints: CompileService | None = None,
    overlap: bool = False,
    clock: Clock | None = None,
    masks: MaskFiller | None = None,
) -> StepEngine:
    config = ScheduleConfig(
        max_rows=max_rows,
        budget_tokens=budget_tokens,
        jump_forward=jump_forward,
        check_invariants=check_invariants,
    )
    model = model or ContextModel()
    return StepEngine(
        make_scheduler(
            model,
            num_pages=num_pages,
            page_size=page_size,
            config=config,
            constraints=constraints,
            overlap=overlap,
            clock=clock,
            masks=masks,
        )
    )


def run(eng: StepEngine, *nodes: StreamNode, stream: int = 1) -> list[NodeDone]:
    eng.send(OpenStream(stream, 0), Append(stream, (*nodes, End())))
    eng.run()
    return eng.done(stream)


def mislead(eng: StepEngine, site: int = 1) -> None:
    """All outputs of the site were a token long, says its history: so more streams are let in than
    the pages will last for."""
    for _ in range(64):
        eng.scheduler.batcher.generated(site, 1)


def said(done: NodeDone) -> str:
    return bytes(i for i in done.ids if i < 256).decode()


def idle_pages(eng: StepEngine) -> int:
    stats = eng.scheduler.batcher.cache.stats()
    assert stats.leases == 0
    return stats.free_pages + stats.tree_unlocked_pages
