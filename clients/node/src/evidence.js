// The passages of a text that carry a finding (serve/evidence.py, serve/spans.py).

import { shadow } from "./characters.js";
import { splitPassages } from "./passages.js";

const SPANS = 3, SHARE = 0.35, LONGEST = 300, ALONE = 0.25, LEFT_OUT = 6, NEAR = 2.0;

/** Rows by falling value, equal ones in their order. */
export function ranked(values) {
  return Array.from(values, (_, row) => row).sort((a, b) => values[b] - values[a] || a - b);
}

/**
 * Evidence spans of a text for some policies.
 * @param text clean (CleanText), windows, logits (rows), attribution (rows of [token][policy]; null: searched for)
 * @param {Map<number, number[]>} carrying the windows that carry each policy, best first
 * @param score logits of pieces of clean text (code points), each read as one window
 */
export async function findSpans(text, carrying, score) {
  const byWindow = new Map();
  for (const [policy, windows] of carrying) {
    for (const row of text.attribution ? windows : windows.slice(0, 1)) {
      byWindow.set(row, [...(byWindow.get(row) ?? []), policy]);
    }
  }
  const found = new Map([...carrying.keys()].map((policy) => [policy, new Map()]));
  for (const [row, policies] of byWindow) {
    const window = text.windows[row];
    const codes = text.clean.codes.slice(window.start, window.end);
    const ranges = text.attribution
      ? byAttribution(codes, window, text.attribution[row], policies)
      : await bySearch(codes, text.logits[row], policies, score);
    policies.forEach((policy, at) => {
      const spans = ranges[at].map(([start, end]) => text.clean.originalSpan(window.start + start, window.start + end));
      found.get(policy).set(row, spans);
    });
  }
  return new Map([...found].map(([policy, spans]) => [policy, merge(spans, (row) => text.logits[row][policy])]));
}

/** What the tokens that speak for a policy add to each passage; the ranges that gain most. */
function byAttribution(codes, window, attribution, policies) {
  const passages = splitPassages(shadow(codes));
  return policies.map((policy) => {
    const worth = passages.map(() => 0);
    window.offsets.forEach(([start, end], token) => {
      if (end <= start) return;
      const first = start - window.start;
      const owner = passages.findLastIndex(([from]) => from <= first);
      if (owner >= 0 && first < passages[owner][1]) worth[owner] += Math.max(attribution[token][policy], 0);
    });
    return best(passages, worth, SHARE * Math.max(0, ...worth));
  });
}

/** The same by further runs of the model: each passage alone, and the window without it. */
async function bySearch(codes, logits, policies, score) {
  const passages = splitPassages(shadow(codes));
  if (passages.length < 2) return policies.map(() => passages.map(capped));
  const alone = await score(passages.map(([start, end]) => codes.slice(start, end)));
  const candidates = chooseCandidates(alone, policies);
  const without = await score(
    candidates.map((row) => Uint32Array.of(...codes.slice(0, passages[row][0]), ...codes.slice(passages[row][1]))),
  );
  return policies.map((policy) => {
    const worth = passages.map(() => -Infinity);
    candidates.forEach((row, at) => {
      const fall = Math.fround(logits[policy] - without[at][policy]);
      worth[row] = Math.fround(Math.fround(ALONE * alone[row][policy]) + Math.fround((1 - ALONE) * fall));
    });
    return best(passages, worth, Math.max(...worth) - NEAR);
  });
}

/** Passages worth leaving out: the best of each policy alone, then the second best of each, until there are enough. */
function chooseCandidates(alone, policies) {
  const orders = policies.map((policy) => ranked(alone.map((row) => row[policy])));
  const chosen = new Set(orders.map((order) => order[0]));
  for (let rank = 1; rank < alone.length; rank++) {
    for (const order of orders) {
      if (chosen.size >= LEFT_OUT) return [...chosen].sort((a, b) => a - b);
      chosen.add(order[rank]);
    }
  }
  return [...chosen].sort((a, b) => a - b);
}

function best(passages, worth, least) {
  const order = ranked(worth).slice(0, SPANS);
  return order.filter((row) => row === order[0] || worth[row] >= least).map((row) => capped(passages[row]));
}

const capped = ([start, end]) => [start, Math.min(end, start + LONGEST)];

/** The best span of each window, the best window first, then that window's further ones, none overlapping. */
function merge(spans, logit) {
  const rows = [...spans.keys()].sort((a, b) => logit(b) - logit(a) || a - b);
  const byWindow = rows.map((row) => spans.get(row));
  const candidates = [...byWindow.filter((each) => each.length).map((each) => each[0]), ...byWindow[0].slice(1)];
  const kept = [];
  for (const span of candidates) {
    if (kept.every((other) => span.end <= other.start || other.end <= span.start)) kept.push(span);
  }
  return kept.slice(0, SPANS);
}
