"""Long sites made of pages."""

from serving.long_sites import join_pages

from merchantguard.data.records.record import Record, parse_record


def _record(name: str, text: str, labels: list[str]) -> Record:
    return parse_record({"id": name, "text": text, "labels": labels}, None, row_number=1)


RECORDS = [_record(f"c{n}", f"innocent page {n}", []) for n in range(5)] + [
    _record("v", "the violating page", ["drugs"]),
    _record("w", "another one", ["guns"]),
]


def test_each_violating_page_stands_where_it_is_said_to_and_has_an_innocent_twin() -> None:
    sites = join_pages(RECORDS, least=3, most=6, limit=10, seed=0)
    assert sorted(site.labels for site in sites) == [(), (), ("drugs",), ("guns",)]
    texts = {("drugs",): "the violating page", ("guns",): "another one"}
    for site in sites:
        if site.page:
            assert site.text[slice(*site.page)] == texts[site.labels]
        else:
            assert "violating" not in site.text


def test_the_same_seed_gives_the_same_sites() -> None:
    first, again = (join_pages(RECORDS, least=3, most=6, limit=10, seed=7) for _ in range(2))
    assert first == again
    assert first != join_pages(RECORDS, least=3, most=6, limit=10, seed=8)
