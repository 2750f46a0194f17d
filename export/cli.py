"""Write the bundle of a run: ONNX graphs that pass the parity gate, and everything else that scoring needs."""

import argparse
import sys
from pathlib import Path

EPILOG = """\
examples:
  merchantguard export runs/quickstart bundle/
  merchantguard export runs/quickstart bundle/ --stream labelled.jsonl

exit status: 0 if the bundle is written; anything else if it is not, and an older bundle is unchanged.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `merchantguard export` to a parser."""
    parser.add_argument("run", type=Path, help="folder that `merchantguard train` wrote")
    parser.add_argument("bundle", type=Path, help="folder to write; an older bundle there is replaced")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="also try an int8 graph: takes minutes more, and is written only if it decides as float32 does",
    )
    parser.add_argument(
        "--stream",
        nargs="+",
        type=Path,
        metavar="FILE",
        default=(),
        help="labelled records like the texts that will be scored, to fit the first stage of a cascade on",
    )
    parser.add_argument("--no-fused", action="store_true", help="write only model.onnx, no faster variant")


def main(args: argparse.Namespace) -> int:
    """Export the run that `args` names and return the exit status.

    :raises MerchantGuardError: if the run is not usable, the graph fails parity or a file cannot be written.
    """
    from ..data.records.readers import read_records
    from ..train.run import load_run
    from .build import export_bundle

    print(f"exporting {args.run}; this takes a minute", file=sys.stderr)
    run = load_run(args.run)
    stream = read_records(args.stream, run.taxonomy, strict=True).records if args.stream else ()
    bundle = export_bundle(run, args.bundle, fused=not args.no_fused, int8=args.int8, stream=stream)
    for parity in bundle.document["parity"]:
        attribution = parity["max_attribution_difference"]
        print(
            f"{parity['graph']}: probabilities within {parity['max_difference']:.1e} of the trained model's"
            + ("" if attribution is None else f", attribution within {attribution:.1e}")
            + f", on {parity['texts']} texts ({parity['windows']} windows)",
            file=sys.stderr,
        )
    for variant in bundle.document["variants_left_out"]:
        print(f"{variant['name']} is left out: {variant['reason']}", file=sys.stderr)
    print(bundle.path)
    return 0
