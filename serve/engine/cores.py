"""How many cores a container leaves to this process: the CPU quota and the cpuset of its control groups."""

from collections.abc import Iterator
from pathlib import Path


def quota_cores(system: Path = Path("/")) -> int | None:
    """The cores of the smallest quota or cpuset, rounded down, at least 1; None where nothing limits the process.

    A group's limit holds for the groups inside it: all of them up to the mounted one are read, of versions 1 and 2.

    :param system: the root of the file system that is looked at.
    """
    limits = [limit for folder in _folders(system) for limit in _limits(folder)]
    return max(1, int(min(limits))) if limits else None


def _folders(system: Path) -> Iterator[Path]:
    """The process's control groups, from each up to its mount point."""
    groups: dict[str, str] = {}
    for line in _lines(system / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        groups |= dict.fromkeys(controllers.split(","), path)
    for line in _lines(system / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, _, options = after.split(maxsplit=2)
        names = {"cgroup": {"cpu", "cpuset"} & set(options.split(",")), "cgroup2": {""}}.get(kind, set())
        mounted = system / point.lstrip("/")
        for name in names:
            path = groups.get(name, "/")
            # Inside a container the mounted folder may be the group itself, whatever the path says.
            inside = Path(path.removeprefix(root).lstrip("/")) if path.startswith(root) else Path()
            yield from (mounted / each for each in (inside, *inside.parents))


def _limits(folder: Path) -> Iterator[float]:
    """Cores that the files of one group allow."""
    for line in _lines(folder / "cpu.max"):  # version 2: "200000 100000" or "max 100000"
        yield from _share(*line.split()[:2])
    quota, period = _lines(folder / "cpu.cfs_quota_us"), _lines(folder / "cpu.cfs_period_us")
    if quota and period:  # version 1: -1 is no limit
        yield from _share(quota[0], period[0])
    for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
        if listed := "".join(_lines(folder / name)).strip():
            yield from _listed(listed)
            return


def _share(quota: str, period: str = "100000") -> Iterator[float]:
    if quota.isdigit() and period.isdigit() and int(period):
        yield int(quota) / int(period)


def _listed(text: str) -> Iterator[float]:
    """The number of cores in a list such as 0-3,8."""
    ends = [part.partition("-") for part in text.split(",")]
    if all(first.isdigit() and (last.isdigit() or not dash) for first, dash, last in ends):
        yield float(sum(int(last or first) - int(first) + 1 for first, _, last in ends))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
