"""Requests and answers of the service, as they stand in its OpenAPI description."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

# Checked by the record contract, which accepts what UTF-8 cannot carry, such as lone surrogates.
Text = Annotated[Any, WithJsonSchema({"type": "string"})]

LONGEST_DEADLINE_MS = 3_600_000
"""An hour: clocks overflow at absurd ones."""

_RECORD_EXAMPLE: dict[str, Any] = {
    "id": "m-1042",
    "name": "Blue Kiln",
    "pages": [{"url": "https://bluekiln.example/", "text": "We glaze every bowl by hand."}],
}


_PAGES_SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("url", "text", "html")},
    },
}


class RecordIn(BaseModel):
    """A merchant by the record contract: `text`, `html` or `pages`, and what is known of the merchant."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [_RECORD_EXAMPLE]})
    id: str | int | None = Field(default=None, description="the caller's id of the record; it comes back")
    merchant_id: str | int | None = Field(default=None, description="goes into the decision log")
    text: Text = None
    html: Text = None
    pages: Annotated[Any, WithJsonSchema(_PAGES_SCHEMA)] = None
    name: Text = None
    description: Text = None
    exposure: float | None = Field(default=None, ge=0.0, description="for action tables: money at risk")
    history: list[str] = Field(
        default=[], description="for action tables: earlier actions, the last one at the end"
    )


_ITEM_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "object"}]}
_INPUT_SCHEMA = {"anyOf": [*_ITEM_SCHEMA["anyOf"], {"type": "array", "items": _ITEM_SCHEMA, "minItems": 1}]}


class AssessIn(BaseModel):
    """What to assess: a text, a record, or a list of them."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"input": "Hand-made bowls and mugs from our studio."},
                {"input": [_RECORD_EXAMPLE, "Replica watches, no questions asked"], "deadline_ms": 500},
            ]
        },
    )
    input: Annotated[Any, WithJsonSchema(_INPUT_SCHEMA)] = Field(
        description="a text, a record, or a list of texts and records: an item that is wrong gets an error of its own"
    )
    deadline_ms: int | None = Field(
        default=None,
        gt=0,
        le=LONGEST_DEADLINE_MS,
        description="milliseconds after which nobody needs the answer",
    )


class SpanOut(BaseModel):
    """A passage; offsets count Unicode code points of the text that was read. `hidden`: no visitor of the page sees it."""

    start: int
    end: int
    text: str
    url: str | None = None
    hidden: bool = False


class FindingOut(BaseModel):
    """A policy whose probability reached its review or block threshold."""

    policy: str
    title: str
    severity: str
    probability: float
    decision: Literal["clear", "review", "block"]
    certificate: Literal["policy", "pooled"] | None
    spans: list[SpanOut]


class ErrorOut(BaseModel):
    """What is wrong, and with which item."""

    type: str
    message: str


class ActionOut(BaseModel):
    """What the action table says."""

    action: str
    rule: str
    table_version: str
    documents: list[str] = []


class ResultOut(BaseModel):
    """The assessment of one item, or its error."""

    index: int
    id: str | int | None = None
    decision_id: str | None = None
    decision: Literal["clear", "review", "block"] | None = None
    any_violation: float | None = None
    probabilities: dict[str, float] | None = None
    findings: list[FindingOut] | None = None
    action: ActionOut | None = None
    windows: int | None = None
    truncated: bool | None = None
    cleared_early: bool | None = None
    warnings: list[str] | None = None
    error: ErrorOut | None = None


class AssessOut(BaseModel):
    """Assessments in the order of the input."""

    request_id: str
    model: str = Field(description="name@version of the bundle")
    digest: str = Field(description="SHA-256 that identifies the bundle")
    results: list[ResultOut]


_TEXTS_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}


class ModerationIn(BaseModel):
    """The request of OpenAI's moderation endpoint."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [{"input": "Hand-made bowls."}]})
    input: Annotated[Any, WithJsonSchema(_TEXTS_SCHEMA)]
    model: Any = None


class ModerationResult(BaseModel):
    """One text in the shape of OpenAI's moderation endpoint, with the decision."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[str]]
    decision: Literal["clear", "review", "block"]
    decision_id: str | None = None


class ModerationOut(BaseModel):
    """The answer of OpenAI's moderation endpoint."""

    id: str
    model: str
    results: list[ModerationResult]


class PolicyOut(BaseModel):
    """A policy and its thresholds; `block` is null where it never blocks."""

    id: str
    title: str
    severity: str
    review: float
    block: float | None


class ModelOut(BaseModel):
    """The bundle in use."""

    name: str
    version: str
    digest: str
    variant: str
    policies: list[PolicyOut]
    languages: list[str]
    swaps: int
    refused: int
    last_error: str | None


class SwapIn(BaseModel):
    """Which bundle is to take over; without a path the one in the folder that the service began with."""

    model_config = ConfigDict(extra="forbid")
    path: str | None = None
