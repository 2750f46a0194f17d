"""Throughput, latency, load time and memory of the scorer beside its peers, all measured in one run.

    python -m serving.compare quickstart/run quickstart/bundle --data data/corpus/part-0*.jsonl --out serving.json \\
        --python optimum=OPTIMUM/bin/python infinity=INFINITY/bin/python litserve=PEERS/bin/python mosec=PEERS/bin/python
    python -m serving.compare quickstart/run quickstart/bundle --data data/corpus/part-01.jsonl --texts 16 --repeats 1 \\
        --peers ours,torch,onnxruntime

Each peer runs in its own process, one after the other, in its own environment where `--python` names one, over the
same texts in their real mix of lengths. A peer that cannot be installed or started is named, and the others go on.

No peer serves our n-gram branch and mixture. They serve the same encoder, LoRA merged, as BertForSequenceClassification:
its pooler reads one token where we average all. That is nearly the same work, a little less than ours, because we also
clean the text, cut it into windows and run the branch. Peers get clean text cut into the same windows, each as a separate
input, and read the same tokens except for word pieces at the ends of a window. Bulk peers score all texts at once. Online,
clients in a closed loop send one text each: to LitServe and mosec by HTTP on the loopback interface, from another process;
to infinity and our micro-batcher from within their process. All clients use the same cores.

Every figure is the median of the repeats of a peer's best setting. GFLOP/s count 2 per encoder weight (without
embeddings) and token, and 4 T T hidden for attention per layer over a window of T tokens; padding, pooling, head and
n-grams do not count. The peak is a 2048 x 2048 matrix product in the row's precision (float32 for int8), measured just
before that peer. Memory of a server is the sum over its processes, so shared pages count once per process.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guard import guarded
from tokenizers import Tokenizer
from transformers.utils.logging import disable_progress_bar

from merchantguard.core.errors import MerchantGuardError
from merchantguard.core.files import write_json
from merchantguard.serve.bundle import TOKENIZER, Bundle
from merchantguard.serve.bundle_reader import read_bundle
from merchantguard.serve.engine.workers import usable_cores
from merchantguard.serve.scorer import load_tokenizer
from merchantguard.train.run import load_run

from .inputs import Shape, Texts, choose_texts, cut, write_model_folder
from .process import PeerFailed, run_script
from .report import Row, bulk_table, online_table, without_logits

PEERS = (
    *("ours", "transformers", "torch", "optimum", "onnxruntime", "openvino", "infinity"),
    *("litserve", "mosec"),
)
REFERENCE = "torch fp32"
ENGINES = ("onnx", "torch")


@dataclass(frozen=True, slots=True)
class Entry:
    """A row to measure: `peer_{peer}.py` with `options`; `twin` is the row its logits are compared with."""

    peer: str
    name: str
    online: bool = False
    precision: str = "fp32"
    twin: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def arguments(self) -> tuple[str, ...]:
        """Arguments that select the part of a script that can do both."""
        return ("online",) if self.online else ()


def list_entries(bundle: Bundle, labels: int) -> list[Entry]:
    """All rows, ours first; bulk before online."""
    own = [(f"ours ({each.name})", each) for each in bundle.variants]
    ours = {name: {"bundle": str(bundle.path.resolve()), "variant": each.name} for name, each in own}
    engine = {"precision": "float32", "labels": labels}
    return [
        *(
            Entry("ours", name, precision=each.precision, twin=_twin_of_ours(each.name), options=ours[name])
            for name, each in own
        ),
        Entry("torch", REFERENCE, options={"precision": "fp32"}),
        Entry("torch", "torch bf16", precision="bf16", twin=REFERENCE, options={"precision": "bf16"}),
        Entry("transformers", "transformers pipeline", twin=REFERENCE),
        Entry("optimum", "optimum-onnx", twin=REFERENCE),
        Entry("onnxruntime", "ONNX Runtime", twin=REFERENCE, options={"graph": "model.onnx"}),
        Entry("onnxruntime", "ONNX Runtime fused", twin=REFERENCE, options={"graph": "model.fused.onnx"}),
        *_openvino_entries(),
        Entry("infinity", "infinity", twin=REFERENCE, options=engine),
        *(
            Entry("ours", name, online=True, precision=each.precision, options=ours[name])
            for name, each in own
        ),
        Entry("infinity", "infinity", online=True, options=engine),
        Entry("litserve", "LitServe", online=True, options={"engines": ENGINES}),
        Entry("mosec", "mosec", online=True, options={"engines": ENGINES}),
    ]


def _twin_of_ours(variant: str) -> str | None:
    return None if variant == "plain" else "ours (plain)"


def _openvino_entries() -> list[Entry]:
    names = {False: "OpenVINO {}", True: "OpenVINO {} throughput"}
    return [
        Entry(
            "openvino",
            names[throughput].format(precision),
            precision=precision,
            twin=REFERENCE if precision == "fp32" else names[throughput].format("fp32"),
            options={"precision": {"fp32": "f32"}.get(precision, precision), "throughput": throughput},
        )
        for throughput in (False, True)
        for precision in ("fp32", "bf16")
    ]


def parse_pythons(pairs: Sequence[str]) -> dict[str, str]:
    """The interpreter of each peer, from `peer=PYTHON` pairs; by default this one.

    :raises MerchantGuardError: if a pair is malformed or does not name a peer.
    """
    pythons = dict.fromkeys((*PEERS, "gemm"), sys.executable)
    for pair in pairs:
        peer, found, python = pair.partition("=")
        if not found or not python or peer not in PEERS:
            raise MerchantGuardError(f"--python {pair!r}: write PEER=PYTHON; peers: {', '.join(PEERS)}")
        # Not resolved: an environment's interpreter is a link.
        pythons[peer] = str(Path(python).absolute()) if "/" in python else python
    return pythons


def parse_peers(text: str) -> tuple[str, ...]:
    """Comma-separated names of peers.

    :raises MerchantGuardError: naming those that do not exist.
    """
    chosen = tuple(name.strip() for name in text.split(",") if name.strip())
    if unknown := [name for name in chosen if name not in PEERS]:
        raise MerchantGuardError(f"--peers: no {', '.join(unknown)}; known: {', '.join(PEERS)}")
    return chosen


class Bench:
    """Measures entries one after the other and keeps the results, failures included."""

    def __init__(
        self, folder: Path, job: Mapping[str, Any], pythons: Mapping[str, str], *, timeout: float
    ) -> None:
        self.rows: dict[bool, list[Row]] = {False: [], True: []}
        self.skipped: dict[str, str] = {}
        self._folder, self._job, self._pythons, self._timeout = folder, job, pythons, timeout

    def measure(self, entry: Entry, *, tokens: int, flops: float) -> None:
        """Measure the machine's peak, then the entry; `tokens` and `flops` are those of one pass."""
        print(f"{entry.name}{' online' if entry.online else ''} ...", file=sys.stderr, flush=True)
        try:
            gflops = self._run("gemm", {}, ())["gflops"]
            result = self._run(entry.peer, entry.options, entry.arguments)
        except PeerFailed as error:
            self.skipped[f"{entry.name}{' online' if entry.online else ''}"] = str(error)
            print(f"  left out, {error}", file=sys.stderr, flush=True)
            return
        for note in result.get("notes", ()):
            print(f"  {note}", file=sys.stderr, flush=True)
        row = Row(
            entry.name, entry.precision, entry.twin, result, gflops, len(self._job["raw"]), tokens, flops
        )
        self.rows[entry.online].append(row)

    def _run(self, peer: str, options: Mapping[str, Any], arguments: tuple[str, ...]) -> dict[str, Any]:
        job = {**self._job, "options": options}
        return run_script(
            self._pythons[peer],
            f"peer_{peer}.py",
            self._folder,
            job,
            arguments=arguments,
            timeout=self._timeout,
        )

    def report(self, *, clients: int) -> str:
        """The tables, and a line for each peer that is left out."""
        parts = []
        if self.rows[False]:
            parts += ["Bulk:", bulk_table(self.rows[False])]
        if self.rows[True]:
            parts += [f"Online, {clients} clients:", online_table(self.rows[True], clients=clients)]
        parts += [f"left out: {name}: {why.splitlines()[-1]}" for name, why in self.skipped.items()]
        return "\n\n".join(parts)

    def as_json(self) -> dict[str, Any]:
        """All results without the logits."""
        rows = [
            {"name": row.name, "online": online, "gflops": row.gflops, **without_logits(row.result)}
            for online, found in self.rows.items()
            for row in found
        ]
        return {"rows": rows, "left_out": self.skipped}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a finished run, for the encoder that peers serve")
    parser.add_argument("bundle", type=Path, help="the run's bundle, for ours")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="records whose texts are scored")
    parser.add_argument("--texts", type=int, default=256, help="texts of a pass (256)")
    parser.add_argument("--repeats", type=int, default=3, help="passes, or slices online (3)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a slice online (10)")
    parser.add_argument("--clients", type=int, default=64, help="concurrent clients online (64)")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"which to measure ({','.join(PEERS)})")
    parser.add_argument("--only", choices=("bulk", "online"), help="one of the two parts")
    parser.add_argument("--python", nargs="+", default=[], metavar="PEER=PYTHON", help="its environment")
    parser.add_argument("--timeout", type=float, default=1800.0, help="most seconds of one peer (1800)")
    parser.add_argument("--out", type=Path, help="a JSON file for all figures")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def prepare(args: argparse.Namespace, bundle: Bundle, folder: Path) -> tuple[Texts, Shape]:
    """The texts in windows, and the model folder of the peers."""
    chosen = choose_texts(args.data, count=args.texts, seed=args.seed)
    if not chosen:
        raise MerchantGuardError("--data: no records were found")
    texts = cut(chosen, load_tokenizer(bundle), Tokenizer.from_file(str(bundle.path / TOKENIZER)))
    return texts, write_model_folder(load_run(args.run), bundle, texts, folder)


def job_of(args: argparse.Namespace, texts: Texts, bundle: Bundle) -> dict[str, Any]:
    """The job of every peer, to which `options` are added."""
    return {
        "raw": texts.raw,
        "windows": texts.windows,
        "window_tokens": bundle.window_tokens,
        "threads": usable_cores(),
        "repeats": args.repeats,
        "clients": args.clients,
        "seconds": args.seconds,
    }


def main() -> int:
    """Prepare, measure every peer, print the tables."""
    # A termination unwinds like an interrupt, so that no peer is left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    disable_progress_bar()
    args = parse_arguments()
    pythons, peers = parse_pythons(args.python), parse_peers(args.peers)
    bundle = read_bundle(args.bundle)
    with tempfile.TemporaryDirectory(prefix="serving-") as name:
        folder = Path(name) / "model"
        texts, shape = prepare(args, bundle, folder)
        job = job_of(args, texts, bundle)
        bench = Bench(folder, job, pythons, timeout=args.timeout)
        own = [len(ids) for ids in texts.ids]
        for entry in list_entries(bundle, len(bundle.policies)):
            if entry.peer in peers and args.only in (None, "online" if entry.online else "bulk"):
                lengths = own if entry.peer == "ours" else texts.peer_tokens
                bench.measure(entry, tokens=sum(lengths), flops=shape.flops(lengths))
    facts = {
        "texts": len(texts.raw),
        "windows": len(own),
        "tokens": sum(own),
        "peer_tokens": sum(texts.peer_tokens),
        "threads": job["threads"],
    }
    print(", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in facts.items()) + "\n")
    print(bench.report(clients=args.clients))
    if args.out:
        write_json(args.out, {**facts, "clients": args.clients, **bench.as_json()})
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
