"""From a request's items to results: each item is read, scored, logged and answered by itself."""

import asyncio
import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from ...core.errors import MerchantGuardError, RecordError, StorageError
from ...data.records.record import Record, record_from
from ...data.site_text import SiteText, text_of
from ...serve import Assessment, BatcherClosed, DeadlineExceeded, QueueFull
from ...serve.decision_record import DecisionRecord, Recorder
from ..actions import ActionTable, Case, Outcome
from ..log import LogFull, LogWriter
from .messages import ActionOut, ErrorOut, FindingOut, RecordIn, ResultOut, SpanOut
from .metrics import Metrics
from .model_host import Loaded

_LOGGER = logging.getLogger("merchantguard.service")

Selection = Callable[[DecisionRecord], tuple[float, bool]]
"""Decides at decision time whether a decision is chosen for something: the probability, and whether it is."""

STATUS = {
    "queue_full": 429,
    "draining": 503,
    "deadline": 504,
    "log_full": 503,
    "invalid": 422,
    "internal_error": 500,
}
"""HTTP status of a request that has no result but an error of this type."""


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a request: a record and what else the caller says about it."""

    record: Record
    given: RecordIn


@dataclass(frozen=True, slots=True)
class Desk:
    """What assessing needs besides the model.

    :param selections: by name; their probabilities go into the decision log.
    """

    metrics: Metrics
    log: LogWriter | None = None
    log_key: bytes = b""
    keep_texts: bool = False
    actions: ActionTable | None = None
    selections: Mapping[str, Selection] | None = None

    async def assess(
        self, model: Loaded, items: Sequence[Any], *, request_id: str, deadline: float | None
    ) -> list[ResultOut]:
        """A result for each item, in their order; a fault of one is its own result.

        :param deadline: seconds from now.
        """
        tasks = [self._one(model, index, item, request_id, deadline) for index, item in enumerate(items)]
        return list(await asyncio.gather(*tasks))

    async def _one(
        self, model: Loaded, index: int, item: Any, request_id: str, deadline: float | None
    ) -> ResultOut:
        item_id = item.get("id") if isinstance(item, dict) else None
        shown_id = (
            shown(item_id) if isinstance(item_id, str) else item_id if isinstance(item_id, int) else None
        )
        try:
            read = read_item(item, index)
            assessment = await _in_time(model, text_of(read.record), deadline)
            result = _result(index, read, assessment, model)
            entry, outcome = self._entry(model, read, assessment, request_id)
            if outcome is not None:
                result.action = ActionOut(
                    action=outcome.action,
                    rule=outcome.rule,
                    table_version=outcome.version,
                    documents=list(outcome.documents),
                )
            if self.log is not None:
                # Acknowledged by the disk before it is given out.
                await asyncio.wrap_future(self.log.append(entry))
                result.decision_id = entry.decision_id
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever goes wrong with one item is that item's result
            return self._failed(index, shown_id, error)
        self.metrics.decision(assessment.decision, model.label, model.scorer.variant)
        return result

    def _failed(self, index: int, item_id: str | int | None, error: Exception) -> ResultOut:
        kind = error_type(error)
        if kind == "internal_error":
            _LOGGER.exception("item %d failed", index, exc_info=error)
        self.metrics.item_error(kind)
        message = (
            "the item failed; the service's log has the reason"
            if kind == "internal_error"
            else shown(str(error))
        )
        return ResultOut(index=index, id=item_id, error=ErrorOut(type=kind, message=message))

    def _entry(
        self, model: Loaded, item: Item, assessment: Assessment, request_id: str
    ) -> tuple[DecisionRecord, Outcome | None]:
        """The decision record, with the action and the selections."""
        recorder = Recorder(model.scorer.bundle, self.log_key, model.scorer.variant, self.keep_texts)
        outcome = None
        merchant_id = None if item.given.merchant_id is None else str(item.given.merchant_id)
        if self.actions is not None:
            case = Case.of(
                assessment,
                model.scorer.policies,
                merchant_id=merchant_id,
                exposure=item.given.exposure,
                history=tuple(item.given.history),
            )
            outcome = self.actions.decide(case)
        given: dict[str, Any] = {
            "request_id": request_id,
            "record_id": None if item.given.id is None else str(item.given.id),
            "merchant_id": merchant_id,
        }
        if outcome is not None:
            given |= {"action": outcome.action, "rule": outcome.rule, "rule_version": outcome.version}
        entry = recorder.record(assessment, item.record.text, **given)
        if self.selections:
            chosen = {name: select(entry) for name, select in self.selections.items()}
            entry = replace(
                entry,
                selection={name: probability for name, (probability, _) in chosen.items()},
                selected=tuple(name for name, (_, selected) in chosen.items() if selected),
            )
        return entry, outcome


async def _in_time(model: Loaded, text: str | SiteText, deadline: float | None) -> Assessment:
    """The assessment; a deadline also holds while the engine hangs, when the batcher cannot look at it.

    :raises DeadlineExceeded: if the deadline passes first.
    """
    try:
        async with asyncio.timeout(deadline):
            return await model.batcher.assess_async(text, deadline=deadline)
    except TimeoutError as error:
        if isinstance(error, DeadlineExceeded):
            raise
        raise DeadlineExceeded(f"no answer within {deadline:.3f} s") from error


def error_type(error: Exception) -> str:
    """The word for an error, in answers and metrics."""
    kinds: tuple[tuple[type[Exception], str], ...] = (
        (QueueFull, "queue_full"),
        (BatcherClosed, "draining"),
        (DeadlineExceeded, "deadline"),
        (LogFull, "log_full"),
        (StorageError, "log_full"),
        (RecordError, "invalid"),
    )
    return next((word for kind, word in kinds if isinstance(error, kind)), "internal_error")


def read_item(item: Any, index: int) -> Item:
    """A text or a record of a request.

    :raises RecordError: naming the item and the field that is wrong.
    """
    if isinstance(item, str):  # an empty text is no record, but it is assessed
        return Item(_bare_record(item, index), RecordIn())
    if not isinstance(item, dict):
        raise RecordError(f"input[{index}]: must be a text or a record, not {type(item).__name__}")
    try:
        given = RecordIn.model_validate(item)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise RecordError(f"input[{index}]: {field}: {first['msg']}") from error
    row = {key: value for key, value in item.items() if key in _RECORD_FIELDS}
    try:
        return Item(
            record_from({**row, "id": str(given.id) if given.id is not None else str(index)}, None), given
        )
    except MerchantGuardError as error:
        raise RecordError(f"input[{index}]: {error}") from error


def _bare_record(text: str, index: int) -> Record:
    return Record(
        id=str(index),
        text=text,
        parts=(),
        domain=None,
        country=None,
        collected_at=None,
        labels=(),
        unknown=(),
        annotator=None,
        labelled_at=None,
        evidence={},
        extra={},
    )


_RECORD_FIELDS = ("text", "html", "pages", "name", "description", "domain", "country")


def _result(index: int, item: Item, assessment: Assessment, model: Loaded) -> ResultOut:
    by_id = {policy.id: policy for policy in model.scorer.policies}
    findings = [
        FindingOut(
            policy=each.policy,
            title=by_id[each.policy].title,
            severity=by_id[each.policy].severity,
            probability=float(each.probability),
            decision=each.decision,
            certificate=each.certificate,
            spans=[
                SpanOut(
                    start=span.start,
                    end=span.end,
                    text=shown(span.text),
                    url=_url(item.record, span.start),
                    hidden=span.hidden,
                )
                for span in each.spans
            ],
        )
        for each in assessment.findings
    ]
    early = assessment.cleared_early
    return ResultOut(
        index=index,
        id=item.given.id,
        decision=assessment.decision,
        any_violation=None
        if early or not math.isfinite(assessment.any_violation)
        else float(assessment.any_violation),
        probabilities=None if early else probabilities_of(assessment, model),
        findings=findings,
        windows=assessment.windows,
        truncated=assessment.truncated,
        cleared_early=early,
        warnings=list(assessment.warnings),
    )


def probabilities_of(assessment: Assessment, model: Loaded) -> dict[str, float]:
    """Probabilities by policy, 0 for those of a text that was cleared early.

    :raises ValueError: if one is not finite: an answer with it would look like a sound one.
    """
    if assessment.cleared_early:
        return {policy.id: 0.0 for policy in model.scorer.policies}
    if not all(map(math.isfinite, assessment.probabilities)):
        raise ValueError(f"{model.label} gave a probability that is not finite")
    return {
        policy.id: float(probability)
        for policy, probability in zip(model.scorer.policies, assessment.probabilities, strict=True)
    }


def shown(text: str) -> str:
    """Text as JSON can carry it: a lone surrogate, which UTF-8 cannot encode, becomes U+FFFD, one for one."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _url(record: Record, start: int) -> str | None:
    return next((part.url for part in record.parts if part.start <= start < part.end and part.url), None)


def retry_after() -> str:
    """Seconds for the header Retry-After, spread so that refused callers do not come back together."""
    return str(random.randint(1, 3))
