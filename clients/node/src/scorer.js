// From text to assessments, with a bundle, in this process.

import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";

import { InferenceSession, Tensor } from "onnxruntime-node";

import { BundleError, readBundle } from "./bundle.js";
import { clean } from "./cleaning.js";
import { decide, pool, probabilities, strictest } from "./decisions.js";
import { findSpans, ranked } from "./evidence.js";
import { textWarnings } from "./warnings.js";
import { WindowTokenizer } from "./windows.js";

export { BundleError, clean };

const BATCH_TOKENS = 512, LENGTH_STEP = 4, WINDOWS_SHOWN = 3;

export class Scorer {
  /** Use `Scorer.load`. */
  constructor(bundle, session, tokenizer) {
    this.bundle = bundle;
    this.session = session;
    this.tokenizer = tokenizer;
    const wanted = bundle.pooling === "attention" ? ["logits", "scores"] : ["logits"];
    const missing = wanted.find((name) => !session.outputNames.includes(name));
    if (missing) throw new BundleError(`${bundle.graph}: does not give ${missing}`);
    this.outputs = [...wanted, "contributions"].filter((name) => session.outputNames.includes(name));
  }

  /**
   * Read and check the bundle in a folder.
   * @param {{threads?: number, variant?: string}} options threads of one run (all cores by default); a variant for ONNX Runtime
   * @throws {BundleError} naming the file or field
   */
  static async load(folder, { threads = availableParallelism(), variant = "plain" } = {}) {
    const bundle = await readBundle(folder, variant);
    const content = JSON.parse(await readFile(join(folder, "tokenizer.json"), "utf8"));
    const tokenizer = await WindowTokenizer.create(content, bundle);
    const session = await InferenceSession.create(join(folder, bundle.graph), {
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      enableMemPattern: false, // a memory plan is kept for every input shape
      logSeverityLevel: 3,
    });
    return new Scorer(bundle, session, tokenizer);
  }

  /** Assess one text; an empty one is assessed too. All offsets are code points of the text. */
  async assess(text) {
    return (await this.assessMany([text]))[0];
  }

  /** Assess texts, in their order; their windows go through the model together. */
  async assessMany(texts) {
    const encoded = await Promise.all(
      texts.map(async (text) => {
        const cleaned = clean(text);
        return { clean: cleaned, ...(await this.tokenizer.encode(cleaned.codes)) };
      }),
    );
    const rows = await this.#run(encoded.flatMap((text) => text.windows.map((window) => window.ids)), this.outputs);
    const results = [];
    let at = 0;
    for (const text of encoded) {
      const own = rows.slice(at, (at += text.windows.length));
      results.push(await this.#assessment({
        ...text,
        logits: own.map((row) => row.logits),
        scores: own[0].scores ? own.map((row) => row.scores) : null,
        attribution: own[0].contributions ? own.map((row) => row.contributions) : null,
      }));
    }
    return results;
  }

  async #assessment(text) {
    const { bundle } = this;
    const found = probabilities(bundle, pool(text.logits, text.scores), text.windows.length);
    const warnings = textWarnings(text.clean.codes, text.truncated, bundle.languages);
    const foreign = warnings.includes("language");
    const decisions = decide(bundle, found).map((each) => (foreign && each === "block" ? "review" : each));
    const columns = ranked(found.policies).filter((column) => decisions[column] !== "clear");
    const carrying = new Map(columns.map((column) => [column, this.#carrying(text.logits, column)]));
    const spans = await findSpans(text, carrying, (pieces) => this.#score(pieces));
    return {
      decision: foreign ? "review" : strictest(decisions),
      anyViolation: found.any,
      probabilities: Object.fromEntries(bundle.policies.map((policy, column) => [policy.id, found.policies[column]])),
      findings: columns.map((column) => ({
        policy: bundle.policies[column].id,
        probability: found.policies[column],
        decision: decisions[column],
        certificate: decisions[column] === "block" ? bundle.policies[column].scope : null,
        spans: spans.get(column),
      })),
      windows: text.windows.length,
      truncated: text.truncated,
      warnings,
      bundle: bundle.label,
    };
  }

  /** The best window for a policy, and the next ones that pass its review threshold on their own. */
  #carrying(logits, column) {
    const order = ranked(logits.map((row) => row[column])).slice(0, WINDOWS_SHOWN);
    const { review } = this.bundle.policies[column];
    return order.filter((row) => row === order[0] || probabilities(this.bundle, logits[row], 1).policies[column] >= review);
  }

  /** Logits of pieces of clean text, each read as one window. */
  async #score(pieces) {
    const encoded = await Promise.all(pieces.map((codes) => this.tokenizer.encode(codes)));
    const rows = await this.#run(encoded.map(({ windows }) => windows[0].ids), ["logits"]);
    return rows.map((row) => row.logits);
  }

  /** Outputs of windows of token ids, in their order; windows of like length share a run. */
  async #run(windows, names) {
    const order = windows.map((_, row) => row).sort((a, b) => windows[a].length - windows[b].length || a - b);
    const found = new Array(windows.length);
    for (const rows of batches(order, windows)) {
      const outputs = await this.session.run(this.#feed(rows.map((row) => windows[row])), names);
      rows.forEach((row, at) => (found[row] = Object.fromEntries(names.map((name) => [name, rowOf(outputs[name], at)]))));
    }
    return found;
  }

  #feed(windows) {
    const lengths = windows.map((ids) => ids.length);
    const longest = Math.max(1, ...lengths, Math.min(padded(Math.max(...lengths)), this.bundle.windowTokens));
    const ids = new BigInt64Array(windows.length * longest).fill(BigInt(this.tokenizer.padId));
    const mask = new BigInt64Array(windows.length * longest);
    windows.forEach((window, row) => {
      ids.set(window.map(BigInt), row * longest);
      mask.fill(1n, row * longest, row * longest + window.length);
    });
    const shape = [windows.length, longest];
    return { input_ids: new Tensor("int64", ids, shape), attention_mask: new Tensor("int64", mask, shape) };
  }
}

const padded = (length) => Math.ceil(length / LENGTH_STEP) * LENGTH_STEP;

function* batches(order, windows) {
  let batch = [];
  for (const row of order) {
    if (batch.length && (batch.length + 1) * padded(windows[row].length) > BATCH_TOKENS) {
      yield batch;
      batch = [];
    }
    batch.push(row);
  }
  if (batch.length) yield batch;
}

/** Row `at` of an output: numbers (K), or of contributions an array of them for each token (T, K). */
function rowOf(tensor, at) {
  const [, ...shape] = tensor.dims;
  const size = shape.reduce((product, each) => product * each, 1);
  const values = tensor.data.slice(at * size, (at + 1) * size);
  if (shape.length === 1) return Array.from(values);
  const [tokens, policies] = shape;
  return Array.from({ length: tokens }, (_, token) => values.subarray(token * policies, (token + 1) * policies));
}
