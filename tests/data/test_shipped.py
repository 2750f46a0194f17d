"""The shipped corpus and what its README says of it."""

from merchantguard.data.records.readers import read_records
from merchantguard.data.shipped import corpus_paths, describe_corpus
from merchantguard.data.taxonomy import load_taxonomy


def test_readme_gives_the_counts_of_the_shipped_files():
    paths = corpus_paths()
    assert [path.name for path in paths] == [f"part-0{number}.jsonl" for number in range(1, 6)]
    taxonomy = load_taxonomy()
    described = describe_corpus(read_records(paths, taxonomy, strict=True).records, taxonomy)
    readme = (paths[0].parent / "README.md").read_text(encoding="utf-8").splitlines()
    country = described.index("| country |")
    others = described.index("| labels of a record |")
    listed = described[:country] + described[others:]
    assert [line for line in listed.splitlines() if line not in readme] == []
    assert described[country:others].splitlines()[2] in readme
