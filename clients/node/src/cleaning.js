// Cleaning merchant text as the Python reference does (data/cleaning/text.py), with a map back to the original.

import { codePoints, toText } from "./characters.js";
import { readDisguised } from "./disguised.js";
import { foldLookalikes } from "./lookalikes.js";
import { normalise, Spans } from "./normalise.js";

const SPACE = 0x20, NEWLINE = 0x0a;
const ROUNDS = 8;

/** Clean text: its code points, and for each where it begins and ends in the original, in code points. */
export class CleanText {
  constructor(raw, spans) {
    this.raw = raw;
    this.codes = spans.codes;
    this.starts = spans.starts;
    this.ends = spans.ends;
  }

  get text() {
    return toText(this.codes);
  }

  /** The original's characters behind the clean ones from `start` to `end` (exclusive). */
  originalSpan(start, end) {
    const first = this.starts[start], after = this.ends[end - 1];
    return { start: first, end: after, text: toText(this.raw.subarray(first, after)) };
  }
}

/** Clean a string; any is accepted, lone surrogates included. */
export function clean(text) {
  if (typeof text !== "string") throw new TypeError(`text must be a string, not ${typeof text}`);
  const raw = codePoints(text);
  return new CleanText(raw, readLetters(normalise(raw)));
}

/** Fold look-alikes, decode disguised words, collapse white space; again as long as a word changed. */
function readLetters(given) {
  let spans = given;
  for (let round = 0; round < ROUNDS; round++) {
    const near = readDisguised(foldLookalikes(spans));
    // Only after this are wide gaps between letters single spaces.
    spans = collapseWhiteSpace(near.spans);
    if (!near.changed && equal(spans.codes, near.spans.codes)) break;
    const far = readDisguised(spans);
    spans = far.spans;
    if (!near.changed && !far.changed) break;
  }
  return spans;
}

function equal(a, b) {
  return a === b || (a.length === b.length && a.every((code, at) => code === b[at]));
}

/** Runs of spaces become one, runs with line breaks one or two line breaks; the ends are trimmed. */
function collapseWhiteSpace(spans) {
  const { codes, starts, ends } = spans;
  const out = { codes: [], starts: [], ends: [] };
  for (let at = 0; at < codes.length; ) {
    if (codes[at] !== SPACE && codes[at] !== NEWLINE) {
      out.codes.push(codes[at]);
      out.starts.push(starts[at]);
      out.ends.push(ends[at]);
      at++;
      continue;
    }
    let after = at, breaks = 0;
    for (; codes[after] === SPACE || codes[after] === NEWLINE; after++) if (codes[after] === NEWLINE) breaks++;
    if (at > 0 && after < codes.length) addWhite(out, breaks, at, after, spans);
    at = after;
  }
  return new Spans(Uint32Array.from(out.codes), Uint32Array.from(out.starts), Uint32Array.from(out.ends));
}

function addWhite(out, breaks, first, after, { starts, ends }) {
  for (let copy = 0; copy < Math.min(Math.max(breaks, 1), 2); copy++) {
    out.codes.push(breaks > 0 ? NEWLINE : SPACE);
    out.starts.push(starts[first]);
    out.ends.push(ends[after - 1]);
  }
}
