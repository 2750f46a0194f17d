// Unicode NFKC with the way back, unseen characters out and floods of combining marks capped (data/cleaning/normalise.py).

import { becomes, codePoints, DROPPED, isCombining, isMark, JOINING, kindOf, SIMPLE, toText } from "./characters.js";

const GENERAL_MARKS_KEPT = 2, MARKS_KEPT = 6, CLUSTER_READ = 32;
const CARRIAGE_RETURN = 0x0d, NEWLINE = 0x0a, SPACE = 0x20;

/** Text on its way: code points, and for each where it begins and ends in the original. */
export class Spans {
  constructor(codes, starts, ends) {
    this.codes = codes;
    this.starts = starts;
    this.ends = ends;
  }

  /** The characters at some positions, in rising order. */
  take(kept) {
    const pick = (from) => kept.map((at) => from[at]);
    return new Spans(pick(this.codes), pick(this.starts), pick(this.ends));
  }
}

/** Drop invisible characters, apply NFKC, cap combining marks. */
export function normalise(codes) {
  const positions = [];
  for (let at = 0; at < codes.length; at++) {
    const code = codes[at];
    if (kindOf(code) === DROPPED || (code === CARRIAGE_RETURN && codes[at + 1] === NEWLINE)) continue;
    positions.push(at);
  }
  const out = { codes: [], starts: [], ends: [] };
  const seen = new Map();
  for (let first = 0; first < positions.length; ) {
    let after = first + 1;
    while (after < positions.length && kindOf(codes[positions[after]]) === JOINING) after++;
    addCluster(out, codes, positions, first, after, seen);
    first = after;
  }
  return new Spans(Uint32Array.from(out.codes), Uint32Array.from(out.starts), Uint32Array.from(out.ends));
}

function addCluster(out, codes, positions, first, after, seen) {
  const head = codes[positions[first]];
  const start = positions[first], end = positions[after - 1] + 1;
  if (after - first === 1 && kindOf(head) === SIMPLE) {
    push(out, becomes(head)?.[0] ?? head, start, end);
    return;
  }
  const cluster = positions.slice(first, Math.min(after, first + CLUSTER_READ)).map((at) => codes[at]);
  const key = cluster.join();
  let composed = seen.get(key);
  if (composed === undefined) seen.set(key, (composed = compose(cluster)));
  for (const code of composed) push(out, code, start, end);
}

function push(out, code, start, end) {
  out.codes.push(code);
  out.starts.push(start);
  out.ends.push(end);
}

/** Compose one character and those that join it; marks beyond the cap, or without a base, are dropped. */
function compose(cluster) {
  const text = cluster.map((code) => toText(becomes(code) ?? [code])).join("").normalize("NFC");
  const kept = [];
  let general = MARKS_KEPT, marks = MARKS_KEPT;
  for (const code of codePoints(text)) {
    if (!isMark(code)) {
      general = marks = code === SPACE || code === NEWLINE ? MARKS_KEPT : 0;
      kept.push(code);
      continue;
    }
    marks++;
    if (isCombining(code)) general++;
    // Over the cap all further marks go: after a gap, later marks could compose.
    if (general > GENERAL_MARKS_KEPT || marks > MARKS_KEPT) general = marks = MARKS_KEPT;
    else kept.push(code);
  }
  return kept;
}
