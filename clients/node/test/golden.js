// Compares this port with rows that the Python reference wrote (golden.jsonl of a bundle).
//
//   node test/golden.js BUNDLE [GOLDEN]
//
// Prints a line for each difference and a JSON summary; exit status 1 if there is a difference.

import { createReadStream } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { clean } from "../src/cleaning.js";
import { Scorer } from "../src/scorer.js";

const CLOSE = 1e-4;
const [folder, golden = join(folder, "golden.jsonl")] = process.argv.slice(2);
const scorer = await Scorer.load(folder, { threads: 1 });
let rows = 0, differences = 0, furthest = 0;

function same(what, found, expected) {
  if (JSON.stringify(found) === JSON.stringify(expected)) return;
  differences++;
  console.error(`row ${rows}: ${what} ${JSON.stringify(found).slice(0, 300)}, expected ${JSON.stringify(expected).slice(0, 300)}`);
}

function near(what, found, expected) {
  const distance = Math.abs(found - expected);
  furthest = Math.max(furthest, distance);
  if (!(distance <= CLOSE)) same(what, found, expected);
}

for await (const line of createInterface({ input: createReadStream(golden), crlfDelay: Infinity })) {
  const row = JSON.parse(line);
  rows++;
  const cleaned = clean(row.text);
  same("clean", cleaned.text, row.clean);
  const { windows } = await scorer.tokenizer.encode(cleaned.codes);
  same("windows", windows.map((window) => window.ids), row.windows);
  const found = await scorer.assess(row.text);
  same("truncated", found.truncated, row.truncated);
  same("warnings", found.warnings, row.warnings);
  same("decision", found.decision, row.decision);
  same("findings", found.findings.map(outline), row.findings.map(outline));
  near("any_violation", found.anyViolation, row.any_violation);
  for (const [policy, value] of Object.entries(row.probabilities)) near(policy, found.probabilities[policy], value);
}

/** A finding without its probability. */
function outline({ policy, decision, certificate, spans }) {
  const offsets = spans.map((span) => (Array.isArray(span) ? span : [span.start, span.end]));
  return [policy, decision, certificate, offsets];
}

console.log(JSON.stringify({ rows, differences, furthest }));
process.exitCode = differences || !rows ? 1 : 0;
