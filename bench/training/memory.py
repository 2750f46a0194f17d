"""Memory of a training job over Parquet shards of 10,000 to 1,000,000 generated records; the largest is killed and resumed.

cd bench && python -m training.memory
cd bench && python -m training.memory --records 10000 100000

The records are generated and the encoder is tiny: this measures how memory grows with data, not speed or quality. Anonymous
memory is what the process needs; pages of mapped files are counted separately, as the system can take them back.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from guard import guarded

from merchantguard.core.errors import RunError

WORDS = (
    "crimson",
    "walrus",
    "teapot",
    "ledger",
    "harbour",
    "velvet",
    "copper",
    "meadow",
    "lantern",
    "bicycle",
)
RECORDS_A_SHARD = 50_000


@dataclass(slots=True)
class Usage:
    """Peaks of a process in bytes, and how long it ran."""

    anonymous: int = 0
    mapped: int = 0
    seconds: float = 0.0


def _rows(first: int, count: int, draw: random.Random) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for number in range(first, first + count):
        words = draw.choices(WORDS, k=draw.randint(4, 8))
        labels = sorted({"crimson", "walrus"} & set(words))
        rows.append(
            {"id": f"r{number}", "domain": f"d{number}.example", "text": " ".join(words), "labels": labels}
        )
    return rows


def write_inputs(folder: Path, count: int) -> None:
    """Write shards of `count` records, 400 held-out records, a taxonomy of two policies, and a tiny encoder."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    draw = random.Random(0)
    (folder / "shards").mkdir()
    for start in range(0, count, RECORDS_A_SHARD):
        rows = _rows(start, min(RECORDS_A_SHARD, count - start), draw)
        pq.write_table(pa.Table.from_pylist(rows), folder / "shards" / f"part-{start:08d}.parquet")
    pq.write_table(pa.Table.from_pylist(_rows(10**9, 400, draw)), folder / "held-out.parquet")
    policies = "".join(
        f"  - {{id: {name}, title: {name}, severity: prohibited, covers: {name} goods, not: none}}\n"
        for name in ("crimson", "walrus")
    )
    (folder / "policies.yaml").write_text(f"version: 1\npolicies:\n{policies}")
    vocabulary = {piece: n for n, piece in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=32, **sizes)).save_pretrained(
        folder / "base"
    )
    tokenizer.save(str(folder / "base" / "tokenizer.json"))


def command(folder: Path, batch_records: int, max_steps: int | None) -> list[str]:
    """The training job: one epoch, or its first `max_steps` steps."""
    shares = ("data.train=0.1", "data.validation=0.3", "data.calibration=0.3", "data.test=0.3")
    call = [
        *(sys.executable, "-m", "merchantguard.cli", "train", "--out", str(folder / "run"), "--resume"),
        *(
            f"data.records=[{folder / 'held-out.parquet'}]",
            f"model.base={folder / 'base'}",
            "model.window_tokens=16",
        ),
        *(
            "model.stride_tokens=4",
            "model.token_pooling=softmax",
            "model.gate=true",
            "optim.epochs=1",
            f"optim.batch_records={batch_records}",
        ),
        *("optim.batch_tokens=65536", "optim.learning_rate=0.003", "loop.trackers=[]", "loop.threads=1"),
        *("loop.checkpoint_every=100", f"data.taxonomy={folder / 'policies.yaml'}"),
        *(f"data.shards=[{folder / 'shards'}]", f"data.window_cache={folder / 'cache'}", *shares),
    ]
    return [*call, f"optim.max_steps={max_steps}"] if max_steps else call


def run_job(call: list[str], usage: Usage, *, kill_when: Path | None = None) -> int:
    """Run a job, record its peaks, and kill it once `kill_when` contains two checkpoints; returns the exit status."""
    started = time.monotonic()
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            anonymous = int(fields["RssAnon"].split()[0]) * 1024
            mapped = int(fields["RssFile"].split()[0]) * 1024
        except (OSError, KeyError):  # the process has just ended
            continue
        usage.anonymous, usage.mapped = max(usage.anonymous, anonymous), max(usage.mapped, mapped)
        if kill_when is not None and len(list(kill_when.glob("step-*"))) >= 2:
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.1)
    _, messages = process.communicate()
    usage.seconds += time.monotonic() - started
    if process.returncode not in (0, -signal.SIGKILL):
        raise RunError(f"the job failed:\n{messages[-2000:]}")
    return process.returncode


def measure(count: int, batch_records: int, max_steps: int | None, *, killed: bool) -> Usage:
    """Peaks of a job over `count` records; if `killed`, it is killed in the middle of its epoch and resumed."""
    usage = Usage()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, count)
        call = command(folder, batch_records, max_steps)
        if killed:
            if run_job(call, usage, kill_when=folder / "run" / "checkpoints") != -signal.SIGKILL:
                raise RunError(f"{count} records: the epoch ended before the job was killed")
            print(f"{count:,} records: killed in the middle of the epoch, resuming ...", file=sys.stderr)
        run_job(call, usage)
        if not (folder / "run" / "metrics.json").is_file():
            raise RunError(f"{count} records: the run did not finish")
    return usage


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--batch-records", type=int, default=256)
    parser.add_argument("--max-steps", type=int, help="stop after this many steps; default: the whole epoch")
    args = parser.parse_args()
    print("| records | anonymous memory, peak | mapped files, peak | seconds | |\n|---|---|---|---|---|")
    for count in args.records:
        killed = count == max(args.records)
        usage = measure(count, args.batch_records, args.max_steps, killed=killed)
        note = "killed in mid-epoch and resumed" if killed else ""
        sizes = f"{usage.anonymous / 2**20:,.0f} MiB | {usage.mapped / 2**20:,.0f} MiB"
        print(f"| {count:,} | {sizes} | {usage.seconds:.0f} | {note} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
