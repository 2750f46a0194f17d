"""The simple models: unknown cells are left out, n-grams learn, batches keep to their budget."""

import baselines
import numpy as np

from merchantguard.core.labels import LabelMatrix
from merchantguard.data.records.record import Record, parse_record
from merchantguard.data.taxonomy import Taxonomy, load_taxonomy

TAXONOMY: Taxonomy = load_taxonomy()


def _records(count: int, *, offset: int = 0) -> list[Record]:
    texts = {
        "alcohol": "bottles of red wine and gin",
        "weapons": "rifles and ammunition",
        "": "garden chairs",
    }
    rows = []
    for number in range(count):
        policy = list(texts)[number % 3]
        text = f"shop {offset + number} sells {texts[policy]}, order number {number * 7}"
        rows.append({"id": f"r{offset + number}", "text": text, "labels": [policy] if policy else []})
    return [parse_record(row, TAXONOMY, row_number=number) for number, row in enumerate(rows)]


def test_logistic_regression_leaves_unlabelled_cells_out() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(200, 5)).astype(np.float32)
    labels = np.stack([features[:, 0] > 0, np.zeros(200), features[:, 1] > 0], axis=1).astype(np.float32)
    mask = np.ones((200, 3), dtype=bool)
    mask[100:, 0] = False
    wrong = labels.copy()
    wrong[100:, 0] = 1 - wrong[100:, 0]
    first = baselines.MaskedLogistic(1.0).fit(features, LabelMatrix(labels, mask)).logits(features)
    second = baselines.MaskedLogistic(1.0).fit(features, LabelMatrix(wrong, mask)).logits(features)
    np.testing.assert_array_equal(first, second)
    assert first.shape == (200, 3)
    assert len(set(first[:, 1].tolist())) == 1
    assert first[0, 1] < -4


def test_ngrams_rank_a_new_text_under_its_policy() -> None:
    job = baselines.Job(
        baselines.tfidf, TAXONOMY, _records(60), _records(30, offset=100), {"new": _records(9, offset=500)}
    )
    outcome = baselines.run_here(job)
    logits = outcome.logits["new"]
    assert logits.shape == (9, len(TAXONOMY))
    alcohol, weapons = logits[:, TAXONOMY.index("alcohol")], logits[:, TAXONOMY.index("weapons")]
    assert set(np.argsort(-alcohol)[:3]) == {0, 3, 6}
    assert set(np.argsort(-weapons)[:3]) == {1, 4, 7}
    assert outcome.notes["C"] in baselines.STRENGTHS
    assert outcome.peak_mb > 10


def test_batches_cover_every_text_once_within_the_budget() -> None:
    features = baselines.EmbeddingFeatures.__new__(baselines.EmbeddingFeatures)
    features.batch_tokens = 20
    rows = [[1] * length for length in (3, 30, 7, 7, 1, 12, 2, 0)]
    batches = features._batches(rows)
    assert sorted(index for batch in batches for index in batch) == list(range(len(rows)))
    for batch in batches:
        assert len(batch) == 1 or max(len(rows[index]) for index in batch) * len(batch) <= 20
