// Cutting a text into passages, the units of evidence (data/passages.py). Works on a shadow: indices are code points.

import { WHITE } from "./characters.js";

const ENDS = new RegExp(`\\n+|[.!?]["'”’»)\\]]{0,3}(?=[${WHITE}])|[。！？]|[${WHITE}][|•·](?=[${WHITE}])`, "g");
const CLAUSE = new RegExp(`[;,:|](?=[${WHITE}])|[${WHITE}][-–—](?=[${WHITE}])`, "g");
const SPACE = new RegExp(`[${WHITE}]`, "g");
const IS_SPACE = new RegExp(`[${WHITE}]`);

/** Ranges [start, end] of the sentences, lines and list entries of a text, in order. */
export function splitPassages(text, { shortest = 12, longest = 300, most = 64 } = {}) {
  longest = Math.max(longest, Math.ceil((2 * text.length) / most));
  const cuts = [0, ...Array.from(text.matchAll(ENDS), (match) => match.index + match[0].length), text.length];
  const pieces = [];
  for (let at = 1; at < cuts.length; at++) pieces.push(...cutLong(text, ...trim(text, cuts[at - 1], cuts[at]), longest));
  let joined = joinShort(text, pieces.filter(([start, end]) => start < end), shortest, longest, false);
  while (joined.length > most) {
    shortest *= 2;
    joined = joinShort(text, joined, shortest, Math.max(longest, 2 * shortest), true);
  }
  return joined;
}

function trim(text, start, end) {
  while (start < end && IS_SPACE.test(text[start])) start++;
  while (end > start && IS_SPACE.test(text[end - 1])) end--;
  return [start, end];
}

function cutLong(text, start, end, longest) {
  const pieces = [];
  while (end - start > longest) {
    const limit = start + longest;
    const cut = lastEnd(CLAUSE, text, start, limit) ?? lastEnd(SPACE, text, start, limit) ?? limit;
    pieces.push(trim(text, start, cut));
    start = trim(text, cut, end)[0];
  }
  pieces.push([start, end]);
  return pieces;
}

/** Where the last match ends, in the second half only: a cut near the start would leave a fragment. */
function lastEnd(pattern, text, start, limit) {
  const from = Math.floor((start + limit) / 2);
  let found = null;
  for (const match of text.slice(from, limit).matchAll(pattern)) found = from + match.index + match[0].length;
  return found;
}

function joinShort(text, pieces, shortest, longest, acrossLines) {
  const joined = pieces.slice(0, 1);
  for (const [start, end] of pieces.slice(1)) {
    const [before, after] = joined[joined.length - 1];
    const short = after - before < shortest && end - before <= longest;
    if (short && (acrossLines || !text.slice(after, start).includes("\n"))) joined[joined.length - 1] = [before, end];
    else joined.push([start, end]);
  }
  return joined;
}
