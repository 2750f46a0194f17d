"""Ask a language model for a second opinion on uncertain cases, certify it, and learn from it."""

import argparse
import sys
from pathlib import Path

from ...core.arguments import count, positive_count
from . import commands

EPILOG = """examples:
  merchantguard adjudicate ask bundle/ merchants.jsonl --out opinions/ --gguf model.gguf
  merchantguard adjudicate ask bundle/ merchants.jsonl --out opinions/ --url http://127.0.0.1:8000/v1 --model my-model
  merchantguard adjudicate ask bundle/ merchants.jsonl --out opinions/ --model gpt-x-2026-05-01 --prices 0.4,1.6 --budget 20
  merchantguard adjudicate certify opinions/ labelled.jsonl --error 0.05 --to rules.json
  merchantguard adjudicate ask bundle/ more.jsonl --out opinions/ --gguf model.gguf --rules rules.json
  merchantguard adjudicate records opinions/ merchants.jsonl --to weak.jsonl
  merchantguard adjudicate red-team

ask sends what the bundle is uncertain about, one policy at a time; the answer counts only with quotes that stand in the text.
Asking again with the same --out goes on where it stopped and pays for nothing twice. Keys come from the environment
(MERCHANTGUARD_LLM_KEY, OPENAI_API_KEY). Without --rules every case goes to a person. records writes the proven answers as
soft training records for `merchantguard train ... data.weak=[weak.jsonl]`, and --annotator a table for `label-audit import`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands."""
    tasks = parser.add_subparsers(dest="task", required=True, metavar="ask | certify | records | red-team")
    _add_ask(tasks.add_parser("ask", help="ask about the uncertain cases of files"))
    certify = tasks.add_parser("certify", help="how much may be decided without a person")
    certify.add_argument("opinions", type=Path, help="folder that `ask` wrote")
    certify.add_argument("labelled", nargs="+", help="records with labels: reviewed cases")
    certify.add_argument(
        "--error", type=float, default=0.05, help="largest share of wrong answers (default: %(default)s)"
    )
    certify.add_argument(
        "--level", type=float, default=0.95, help="confidence of each certificate (default: %(default)s)"
    )
    certify.add_argument("--pooled", action="store_true", help="also one rule for all policies together")
    certify.add_argument("--to", type=Path, help="write the rules (JSON)")
    records = tasks.add_parser("records", help="write proven answers as weak training records")
    records.add_argument("opinions", type=Path, help="folder that `ask` wrote")
    records.add_argument("files", nargs="+", help="the files that were asked about")
    records.add_argument("--to", type=Path, required=True, metavar="FILE", help="JSONL file for data.weak")
    records.add_argument(
        "--annotator", type=Path, metavar="FILE", help="also a CSV table for `label-audit import`"
    )
    red_team = tasks.add_parser(
        "red-team", help="attacks on the reader: what the signal sees, what is decided"
    )
    red_team.add_argument(
        "--each", type=positive_count, default=22, help="attacks of each family (default: %(default)s)"
    )


def _add_ask(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, help="folder that `merchantguard export` wrote")
    parser.add_argument("files", nargs="+", metavar="FILE", help="records, pages or folders")
    parser.add_argument("--out", type=Path, required=True, help="folder for journal, opinions and page")
    parser.add_argument(
        "--taxonomy", type=Path, help="taxonomy file with the policies' wording (default: the shipped one)"
    )
    provider = parser.add_argument_group("who is asked")
    provider.add_argument("--gguf", type=Path, metavar="FILE", help="a local model, by llama.cpp")
    provider.add_argument("--model", help="model build at an OpenAI-compatible endpoint")
    provider.add_argument("--url", help="address of the endpoint (default: OpenAI's)")
    provider.add_argument("--replay", type=Path, metavar="FILE", help="recorded answers instead of a model")
    provider.add_argument(
        "--decisions", action="store_true", help="probabilities from the endpoint's decisions"
    )
    provider.add_argument(
        "--context", type=positive_count, default=8192, help="tokens of a local model (default: %(default)s)"
    )
    provider.add_argument(
        "--tokens",
        type=positive_count,
        default=3000,
        help="tokens of text in a question (default: %(default)s)",
    )
    provider.add_argument(
        "--timeout", type=float, default=60.0, help="seconds for an answer (default: %(default)s)"
    )
    provider.add_argument(
        "--parallel", type=positive_count, default=1, help="questions at once (default: %(default)s)"
    )
    provider.add_argument("--a-minute", type=float, metavar="N", help="most questions started in a minute")
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--prices", metavar="IN,OUT", help="money for a million tokens of input and of output"
    )
    limits.add_argument("--budget", type=float, metavar="MONEY", help="most money in all, by --prices")
    limits.add_argument("--a-day", type=positive_count, metavar="N", help="most questions a day")
    limits.add_argument(
        "--a-merchant", type=positive_count, metavar="N", help="most questions about a merchant"
    )
    limits.add_argument(
        "--largest-amount",
        type=float,
        metavar="MONEY",
        help="with more money at risk a person decides at once",
    )
    parser.add_argument(
        "--look-up",
        type=count,
        default=0,
        metavar="PAGES",
        help="where the answer is cannot tell, fetch up to so many pages of the merchant's own domain and ask again "
        "(default: 0, nothing is fetched)",
    )
    parser.add_argument(
        "--log", type=Path, metavar="FOLDER", help="decision log to add the opinions to, by the texts' hashes"
    )
    parser.add_argument("--rules", type=Path, help="certified rules by which cases may be cleared")
    parser.add_argument(
        "--transcripts", type=Path, metavar="FILE", help="write prompts' hashes and answers, for --replay"
    )
    parser.add_argument("--threads", type=int, default=0, help="cores for the bundle; 0: all (the default)")


def main(args: argparse.Namespace) -> int:
    """Run `merchantguard adjudicate`."""
    task = {
        "ask": commands.ask,
        "certify": commands.certify_opinions,
        "records": commands.write_weak_records,
        "red-team": commands.red_team,
    }[args.task]
    return task(args, sys.stdout)
