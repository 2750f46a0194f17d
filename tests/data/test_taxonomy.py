"""The taxonomy: what is shipped, and every fault of a file shown together."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from merchantguard.core.errors import TaxonomyError
from merchantguard.data.taxonomy import Policy, Taxonomy, load_taxonomy

GOOD = """
version: 1
policies:
  - {id: tea, title: Tea, severity: restricted, covers: leaves, not: coffee}
  - {id: salt_2, title: Salt, severity: prohibited, covers: crystals}
"""


def _faults(tmp_path: Path, content: str | bytes) -> str:
    path = tmp_path / "policies.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(TaxonomyError) as caught:
        load_taxonomy(path)
    message = str(caught.value)
    assert str(path) in message
    return message


def test_shipped_taxonomy_is_sound_and_survives_json():
    taxonomy = load_taxonomy()
    assert len(taxonomy) == 20
    assert len(set(taxonomy.ids)) == 20
    assert Taxonomy.from_json(taxonomy.to_json()) == taxonomy
    assert [taxonomy.index(policy) for policy in taxonomy.ids] == list(range(20))


def test_own_taxonomy(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(GOOD)
    taxonomy = load_taxonomy(path)
    assert taxonomy.ids == ("tea", "salt_2")
    assert taxonomy.policies[0] == Policy("tea", "Tea", "restricted", "leaves", "coffee")
    assert taxonomy.policies[1].excludes == ""
    assert "tea" in taxonomy
    assert "coffee" not in taxonomy


def test_unknown_policy_names_the_nearest():
    taxonomy = load_taxonomy()
    with pytest.raises(TaxonomyError, match="did you mean 'gambling'"):
        taxonomy.index("gamblin")


def test_all_faults_are_shown_together(tmp_path):
    message = _faults(
        tmp_path,
        """
version: one
colour: red
policies:
  - {id: Tea House, title: "  ", severity: bad, covers: leaves, note: x}
  - {id: salt, title: Salt, severity: restricted, covers: no}
  - {id: salt, title: Salt, title: Pepper, severity: restricted}
  - just text
""",
    )
    for expected in (
        "11 faults:",
        "version: 'one' is not a whole number from 1 up",
        "colour: unknown key; the keys are version, policies",
        "policies[1].note: unknown key; the keys are id, title, severity, covers, not",
        "policies[1].id: 'Tea House' is not an id of at most 64 ASCII letters",
        "policies[1].title: is empty",
        "policies[1].severity: 'bad' is not prohibited or restricted",
        "policies[2].covers: False is not text (quote it)",
        "policies[3].id: 'salt' is already the id of policies[2]",
        "policies[3].covers: is missing",
        "line 7: the key 'title' is given twice",
        "policies[4]: 'just text' is not a mapping with id, title, severity, covers",
    ):
        assert expected in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "top level: is empty; it must be a mapping with version, policies"),
        ("- a\n- b\n", "top level: ['a', 'b'] is not a mapping"),
        ("version: 1\npolicies: []\n", "policies: is empty; it must be a list of at least one policy"),
        ("version: 1\npolicies: {a: b}\n", "policies: {'a': 'b'} is not a list of at least one policy"),
        ("version: 1\n", "policies: is missing"),
        ("policies: [\n", "not valid YAML"),
        (GOOD.replace("version: 1", "version: true"), "version: True is not a whole number from 1 up"),
        (GOOD.replace("version: 1", "version: 0"), "version: 0 is not a whole number from 1 up"),
        (GOOD.replace("version: 1", "1: version"), "1: unknown key"),
        (GOOD.replace("not:", "1:"), "policies[1].1: unknown key; the keys are id, title"),
        (GOOD.replace("not:", '"\\e[31m":'), "policies[1].⟨U+001B⟩[31m: unknown key"),
        ("version: 1\npolicies: &a [*a]\n", "policies[1]: [[[[[[[...]]]]]]] is not a mapping"),
        ("version: 1\npolicies: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        (b"version: 1\npolicies: \xff\xfe\n", "not valid YAML"),
        ("[" * 5000, "nested too deeply"),
        ("version: 1\n? [a, b]\n: c\npolicies: []\n", "not valid YAML"),
    ],
)
def test_unusable_files(tmp_path, content, expected):
    assert expected in _faults(tmp_path, content)


@pytest.mark.parametrize(
    "policy_id", ["", "-tea", "tea;house", "tea,house", "tea\\n", "té", "tea house", "*", "t" * 65]
)
def test_bad_ids_are_refused(tmp_path, policy_id):
    assert "policies[1].id" in _faults(tmp_path, GOOD.replace("id: tea", f'id: "{policy_id}"'))


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"version": 1, "policies": ["tea"]},
        {"version": 1, "policies": [{"id": "tea"}]},
        {"version": 1, "policies": [{key: [] for key in ("id", "title", "severity", "covers", "not")}]},
        {"version": 1, "policies": [dict.fromkeys(("id", "title", "severity", "covers", "not"), "x")] * 2},
    ],
)
def test_damaged_json_is_refused(value):
    with pytest.raises(TaxonomyError, match="the taxonomy is damaged"):
        Taxonomy.from_json(value)


def test_json_needs_no_library_of_an_extra():
    program = (
        "import sys; from merchantguard.data.taxonomy import Taxonomy\n"
        "entry = dict.fromkeys(('id', 'title', 'severity', 'covers', 'not'), 'x')\n"
        "Taxonomy.from_json({'version': 1, 'policies': [entry]})\n"
        "print({'yaml', 'pydantic'} & set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout == b"set()\n"
    )


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(TaxonomyError, match="cannot be read"):
            load_taxonomy(path)


@pytest.mark.parametrize("policy_id", ["HR-01", "1.2", "tea_house", "T"])
def test_own_codes_are_ids(tmp_path, policy_id):
    path = tmp_path / "policies.yaml"
    entry = {"id": policy_id, "title": "Tea", "severity": "prohibited", "covers": "tea", "not": "coffee"}
    path.write_text(yaml.safe_dump({"version": 1, "policies": [entry]}))
    assert load_taxonomy(path).ids == (policy_id,)


def test_ids_that_differ_in_case_alone_are_refused(tmp_path):
    entries = [
        {"id": name, "title": "Tea", "severity": "prohibited", "covers": "tea", "not": "coffee"}
        for name in ("HR-1", "hr-1")
    ]
    found = _faults(tmp_path, yaml.safe_dump({"version": 1, "policies": entries}))
    assert "policies[2].id: 'hr-1' is already the id of policies[1]" in found
