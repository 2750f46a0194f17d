"""Asking about cases: from the cache or the provider, within limits, every step in the journal."""

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from time import monotonic, sleep

from ...core.errors import MerchantGuardError
from ...data.taxonomy import Taxonomy
from ...serve.decision_record import now
from .answer import Reply
from .case import Case
from .journal import Journal, answer_key
from .proof import Opinion, ProofRule, QuoteScores, prove
from .providers.protocol import Provider, ProviderError
from .question import TOKEN_BUDGET, Question, build_question
from .routing import Limits, ordered


@dataclass(frozen=True, slots=True)
class Adjudicated:
    """A case with its opinion.

    :param cached: whether the reply was in the journal already.
    """

    case: Case
    question: Question
    reply: Reply
    opinion: Opinion
    build: str
    cached: bool


@dataclass(slots=True)
class Progress:
    """What happened to the cases of a run."""

    asked: int = 0
    cached: int = 0
    failed: int = 0
    left_over: dict[str, int] = field(default_factory=dict)
    cost: float = 0.0

    def leave(self, reason: str) -> None:
        """Count a case that is not asked about."""
        self.left_over[reason] = self.left_over.get(reason, 0) + 1


class Stopped(MerchantGuardError):
    """The provider fails again and again; what is answered is kept, and the same command goes on later."""


@dataclass(frozen=True)
class Adjudicator:
    """Asks a provider about cases.

    :param parallel: questions on their way at once.
    :param a_minute: most questions started in a minute; None is no limit.
    :param give_up: stop after so many failures in a row.
    """

    provider: Provider
    journal: Journal
    taxonomy: Taxonomy
    scores: QuoteScores
    limits: Limits = field(default_factory=Limits)
    rule: ProofRule = field(default_factory=ProofRule)
    tokens: int = TOKEN_BUDGET
    parallel: int = 1
    a_minute: float | None = None
    give_up: int = 5

    def run(self, cases: Iterable[Case], progress: Progress) -> Iterator[Adjudicated]:
        """Opinions as they come, cached ones at once.

        :raises Stopped: after `give_up` failures in a row.
        """
        questions = (self._question(case) for case in ordered(cases))
        row = 0
        with ThreadPoolExecutor(self.parallel) as pool:
            waiting: dict[Future[Reply], Question] = {}
            later: list[Question] = []
            starting = self._start(questions, later, progress)
            while True:
                for question, reply in islice(starting, max(self.parallel - len(waiting), 0)):
                    if reply is not None:
                        yield self._adjudicated(question, reply, cached=True)
                    else:
                        waiting[pool.submit(self._ask, question)] = question
                if not waiting:
                    following = next(starting, None)
                    if following is None:
                        break
                    question, reply = following
                    if reply is not None:
                        yield self._adjudicated(question, reply, cached=True)
                        continue
                    waiting[pool.submit(self._ask, question)] = question
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    question = waiting.pop(future)
                    try:
                        reply = future.result()
                    except ProviderError as error:
                        row, progress.failed = row + 1, progress.failed + 1
                        if row >= self.give_up:
                            raise Stopped(f"{row} questions in a row failed; the last: {error}") from error
                        continue
                    row, progress.asked = 0, progress.asked + 1
                    progress.cost += reply.cost
                    yield self._adjudicated(question, reply, cached=False)

        yield from self._repeated(later, progress)

    def _question(self, case: Case) -> Question:
        policy = self.taxonomy.policies[self.taxonomy.index(case.policy)]
        return build_question(case, policy, secret=self.journal.secret, tokens=self.tokens)

    def _start(
        self, questions: Iterable[Question], later: list[Question], progress: Progress
    ) -> Iterator[tuple[Question, Reply | None]]:
        """Questions with their reply from the journal, or noted as asked; those beyond a limit are counted.

        A question that is equal to one on its way goes to `later`.
        """
        started: set[str] = set()
        last = -1e9
        for question in questions:
            key = answer_key(question, self.provider.build)
            reply = self.journal.reply(key)
            if reply is not None:
                progress.cached += 1
                yield question, reply
            elif key in started:
                later.append(question)
            elif (reason := self._beyond(question)) is not None:
                progress.leave(reason)
            else:
                last = self._pace(last)
                started.add(key)
                most = self.provider.prices.most(question)
                self.journal.asked(key, question, self.provider.build, most)
                yield question, None

    def _repeated(self, questions: Iterable[Question], progress: Progress) -> Iterator[Adjudicated]:
        """Questions that were equal to one on its way: by now it is answered, or has failed."""
        for question in questions:
            reply = self.journal.reply(answer_key(question, self.provider.build))
            if reply is None:
                progress.leave("the same text failed")
            else:
                progress.cached += 1
                yield self._adjudicated(question, reply, cached=True)

    def _beyond(self, question: Question) -> str | None:
        """The limit that a question would pass."""
        limits, case = self.limits, question.case
        if limits.largest_amount is not None and case.amount > limits.largest_amount:
            return "amount of money"
        if limits.a_day is not None and self.journal.usage(day=now()[:10]).questions >= limits.a_day:
            return "questions a day"
        if limits.a_merchant is not None:
            asked = self.journal.usage(merchant=case.merchant or "").questions
            if asked >= limits.a_merchant:
                return "questions a merchant"
        if limits.money is not None:
            most = self.provider.prices.most(question)
            if self.journal.usage().cost + most > limits.money:
                return "money"
        return None

    def _pace(self, last: float) -> float:
        if self.a_minute is not None:
            sleep(max(0.0, last + 60.0 / self.a_minute - monotonic()))
        return monotonic()

    def _ask(self, question: Question) -> Reply:
        """Ask, and have the answer on the disk before anybody sees it."""
        key = answer_key(question, self.provider.build)
        try:
            reply = self.provider.ask(question, key)
        except ProviderError as error:
            self.journal.failed(key, str(error))
            raise
        self.journal.replied(key, reply)
        return reply

    def _adjudicated(self, question: Question, reply: Reply, *, cached: bool) -> Adjudicated:
        opinion = prove(question, reply, self.scores, self.rule)
        if reply.model != self.provider.build and opinion.proven:
            fault = f"answered by {reply.model!r}, not by the pinned build {self.provider.build!r}"
            opinion = Opinion(
                "cannot tell", opinion.stated, opinion.probability, opinion.quotes, (*opinion.faults, fault)
            )
        return Adjudicated(question.case, question, reply, opinion, self.provider.build, cached)
