from merchantguard.data.languages import tell_languages
from merchantguard.data.records.record import record_from
from merchantguard.data.taxonomy import load_taxonomy
from merchantguard.train.run import record_predictions

TEXTS = (
    "We roast coffee every week and ship it to all towns.",
    "Wir rösten jede Woche Kaffee und liefern ihn in alle Städte des Landes.",
    "Torrefaction artisanale, nous livrons votre café dans toute la France.",
    "Мы обжариваем кофе каждую неделю и доставляем его по всей стране.",
    "Cosmo Girl - Eau De Parfum",
    "",
)


def test_languages_are_told_and_names_are_not_a_language() -> None:
    assert tell_languages(TEXTS) == ("en", "de", "fr", "ru", "en", "en")
    assert tell_languages(["\ud800" * 10, "a\u0301" * 1000, "\u4e00" * 100_000])[:1] == ("en",)


def test_records_in_other_languages_are_a_slice() -> None:
    taxonomy = load_taxonomy()
    records = [
        record_from({"id": str(n), "text": text or "x", "labels": []}, taxonomy)
        for n, text in enumerate(TEXTS)
    ]

    def slices(count: int) -> dict[str, tuple[str, ...]]:
        logits = [[0.0] * len(taxonomy)] * count
        return dict(record_predictions(records[:count], taxonomy, logits, [1] * count).slices)  # type: ignore[arg-type]

    assert slices(4)["language"] == ("en", "de", "fr", "ru")
    assert "language" not in slices(1)
