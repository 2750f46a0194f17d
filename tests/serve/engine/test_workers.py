"""How many threads are used: all usable cores where none are named, never more than a container's limits."""

import os
from pathlib import Path
from typing import Any

import pytest

from merchantguard.serve import Scorer
from merchantguard.serve.bundle_reader import read_bundle
from merchantguard.serve.engine import workers
from merchantguard.serve.engine.cores import quota_cores
from merchantguard.serve.engine.onnx_model import OnnxModel
from merchantguard.serve.engine.openvino_model import OpenVinoModel
from merchantguard.serve.engine.workers import Workers, thread_count, usable_cores

V2 = "30 23 0:26 {root} /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n"
V1 = (
    "33 23 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "34 23 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
)


def system(folder: Path, groups: str, mounts: str, **files: str) -> Path:
    """A file system with these files below /sys/fs/cgroup."""
    written = {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts}
    for name, text in (written | {f"sys/fs/cgroup/{name}": text for name, text in files.items()}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "cores"),
    [("200000 100000", 2), ("150000 100000", 1), ("20000 100000", 1), ("max 100000", None), ("", None)],
)
def test_the_quota_of_version_2(tmp_path: Path, text: str, cores: int | None) -> None:
    files = {"cpu.max": text}
    assert quota_cores(system(tmp_path, "0::/\n", V2.format(root="/"), **files)) == cores


def test_the_smallest_quota_of_the_groups_around_counts(tmp_path: Path) -> None:
    files = {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n", "cpu.max": "max 100000\n"}
    assert quota_cores(system(tmp_path, "0::/a/b\n", V2.format(root="/"), **files)) == 3


def test_a_group_that_is_mounted_itself(tmp_path: Path) -> None:
    files = {"cpu.max": "400000 100000\n"}
    assert quota_cores(system(tmp_path, "0::/pod/one\n", V2.format(root="/pod/one"), **files)) == 4


@pytest.mark.parametrize(
    ("quota", "cpus", "cores"), [("250000", "0-7", 2), ("-1", "0-2,8", 4), ("-1", "", None)]
)
def test_quota_and_cpuset_of_version_1(tmp_path: Path, quota: str, cpus: str, cores: int | None) -> None:
    files = {
        "cpu,cpuacct/pod/cpu.cfs_quota_us": quota + "\n",
        "cpu,cpuacct/pod/cpu.cfs_period_us": "100000\n",
        "cpuset/pod/cpuset.cpus": cpus + "\n",
    }
    groups = "5:cpu,cpuacct:/pod\n4:cpuset:/pod\n"
    assert quota_cores(system(tmp_path, groups, V1, **files)) == cores


def test_no_control_groups_are_no_limit(tmp_path: Path) -> None:
    assert quota_cores(tmp_path) is None


def test_the_smallest_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(workers, "quota_cores", lambda: None)
    assert usable_cores() == 64
    monkeypatch.setattr(workers, "quota_cores", lambda: 6)
    assert usable_cores() == 6
    for text, cores in (("4", 4), ("3,2", 3), ("100", 6), ("0", 6), ("many", 6)):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert usable_cores() == cores


def test_no_number_of_threads_is_all_cores() -> None:
    assert {thread_count(each) for each in (0, None, "auto")} == {usable_cores()} == {Workers(0).count}
    assert thread_count(3) == 3


@pytest.mark.parametrize("threads", [-1, -8, 1.5, "two"])
def test_an_impossible_number_of_threads_is_refused(threads: int, bundle_path: Path) -> None:
    kind: dict[str, Any] = {"pooling": "max", "policies": len(read_bundle(bundle_path).policies)}
    graph = bundle_path / "model.onnx"
    for call in (
        lambda: thread_count(threads),
        lambda: Workers(threads),
        lambda: Scorer.load(bundle_path, threads=threads),
        lambda: OnnxModel(graph, threads=threads, **kind),
        lambda: OpenVinoModel(graph, workers=threads, precision="fp32", **kind),
    ):
        with pytest.raises(ValueError, match="it must be a whole number"):
            call()


def test_every_engine_takes_0(bundle_path: Path) -> None:
    pytest.importorskip("openvino")
    kind: dict[str, Any] = {"pooling": "max", "policies": len(read_bundle(bundle_path).policies)}
    OnnxModel(bundle_path / "model.onnx", threads=0, **kind)
    OpenVinoModel(bundle_path / "model.onnx", workers=0, precision="fp32", **kind)
    assert Scorer.load(bundle_path, threads=0).assess("crimson").decision == "block"
