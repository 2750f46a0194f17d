"""The service and its bundles, for clients in other languages, and how each client is started."""

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

CLIENTS = Path(__file__).parents[2] / "clients"


def _load(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_SERVICE = _load("service_fixtures", Path(__file__).parents[1] / "operate" / "conftest.py")
_TEXTS = _load("odd_texts", Path(__file__).with_name("odd_texts.py"))
tokenizer, make_bundle = _SERVICE.tokenizer, _SERVICE.make_bundle
golden_bundle, service_bundle, serving = _SERVICE.golden_bundle, _SERVICE.service_bundle, _SERVICE.serving

Answers = tuple[int, list[dict[str, Any]], str]
Ask = Callable[..., Answers]


def _need(program: str, package: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed: apt-get install {package} (.ci/run does)")
    return found


@pytest.fixture(scope="session")
def need() -> Callable[[str, str], str]:
    """Gives the path of a program; skips the test where it is not installed."""
    return _need


@pytest.fixture(scope="session")
def odd_texts() -> Callable[..., list[str]]:
    made: Callable[..., list[str]] = _TEXTS.odd_texts
    return made


@pytest.fixture(scope="session")
def junk() -> Callable[..., str]:
    made: Callable[..., str] = _TEXTS.junk
    return made


@pytest.fixture(scope="session")
def java_classes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Compiles the Java client, once."""
    folder = tmp_path_factory.mktemp("java")

    def compiled() -> Path:
        if not any(folder.iterdir()):
            sources = sorted(map(str, CLIENTS.joinpath("java").rglob("*.java")))
            command = [_need("javac", "default-jdk-headless"), "--release", "17", "-Xlint:all", "-Werror"]
            subprocess.run([*command, "-d", str(folder), *sources], check=True, timeout=120)
        return folder

    return compiled


@pytest.fixture(params=["node", "java", "ruby"])
def ask(request: pytest.FixtureRequest, java_classes: Callable[[], Path]) -> Ask:
    """Sends items through a language's client: exit status, results, messages."""

    def command() -> list[str]:
        if request.param == "node":
            return [_need("node", "nodejs"), str(CLIENTS / "node" / "example.js")]
        if request.param == "ruby":
            return [_need("ruby", "ruby"), "-w", str(CLIENTS / "ruby" / "example.rb")]
        java = _need("java", "default-jdk-headless")
        return [java, "-XX:TieredStopAtLevel=1", "-cp", str(java_classes()), "com.merchantguard.Example"]

    def run(url: str, items: Sequence[Any], *, key: str = "", deadline_ms: int = 60_000) -> Answers:
        environment = {**os.environ, "MERCHANTGUARD_KEY": key}
        if not key:
            del environment["MERCHANTGUARD_KEY"]
        lines = "".join(json.dumps(item) + "\n" for item in items)
        done = subprocess.run(
            [*command(), url, str(deadline_ms)],
            input=lines.encode(),
            capture_output=True,
            timeout=120,
            env=environment,
            check=False,
        )
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()

    return run
