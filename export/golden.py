"""Golden texts: what an implementation in another language, and a machine that is new to a bundle, must reproduce."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.files import write_text
from ..data.behaviour import load_suite
from ..data.cleaning.text import clean
from ..serve.bundle import Bundle
from ..serve.engine.variants import open_variant
from ..serve.preprocess import encode_texts
from ..serve.scorer import Scorer, load_tokenizer

GOLDEN = "golden.jsonl"

_EVERY = 20
_ODD = (
    "",
    " \t\n",
    "\u0430\u0440\u0440l\u0435 \u0441asino \uff46\uff4f\uff52 \u202egnitekram\u202c",
    "Caf\u00e9 \u2014 na\u00efve \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 4\ufe0f\u20e3",
    "[SEP] [CLS] [PAD] [MASK] ##ing",
    "B.u.y  v i a g r a, c@sh pr1ze\u200b$\u00ad!",
    "price\u2028list\u2029end\x00\x07\x1b[31m",
)


def golden_texts() -> list[str]:
    """Texts written for the project, short and long, plain and odd; none is a merchant's."""
    suite = load_suite()
    offers, ordinary = [each.text for each in suite.offers], [each.text for each in suite.ordinary]
    chosen = offers[::_EVERY] + ordinary[::_EVERY]
    page = "\n".join(ordinary[i] for i in range(0, len(ordinary), 3))
    return [*chosen, page, page + "\n" + offers[0] + "\n" + page, *_ODD]


def write_golden(bundle: Bundle, folder: Path, texts: Sequence[str] | None = None) -> None:
    """Write golden.jsonl for the variant "plain" of a bundle: a row a text with its clean text, the token ids of its
    windows, probabilities, decisions and the findings' spans (offsets in code points of the text).

    :param texts: by default `golden_texts`.
    """
    texts = golden_texts() if texts is None else list(texts)
    chosen = bundle.variant("plain")
    scorer = Scorer(
        bundle.for_variant("plain"),
        open_variant(bundle, chosen, workers=1, provider=None),
        load_tokenizer(bundle),
    )
    rows = [_row(scorer, text) for text in texts]
    write_text(folder / GOLDEN, "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows))


def _row(scorer: Scorer, text: str) -> dict[str, Any]:
    found = scorer.assess(text)
    [encoded] = encode_texts([text], scorer.tokenizer)
    return {
        "text": text,
        "clean": clean(text).text,
        "windows": [list(ids) for ids in encoded.ids],
        "truncated": found.truncated,
        "probabilities": {
            policy.id: float(probability)
            for policy, probability in zip(scorer.policies, found.probabilities, strict=True)
        },
        "any_violation": float(found.any_violation),
        "decision": found.decision,
        "warnings": list(found.warnings),
        "findings": [
            {
                "policy": each.policy,
                "probability": float(each.probability),
                "decision": each.decision,
                "certificate": each.certificate,
                "spans": [[span.start, span.end] for span in each.spans],
            }
            for each in found.findings
        ],
    }
