// Folding letters that imitate Latin ones (data/cleaning/lookalikes.py).

import { DIGIT, exactOf, GREEK, LATIN, MARK, nearOf, OTHER, roleOf } from "./characters.js";
import { Spans } from "./normalise.js";

const FIRST_IMITATOR = 0x370; // look-alikes that depend on their word start at the Greek block

/** Replace letters that imitate Latin ones, in the words where they do. */
export function foldLookalikes(spans) {
  const { codes } = spans;
  const alike = new Uint32Array(codes.length);
  let any = false;
  for (let at = 0; at < codes.length; at++) {
    if (codes[at] < FIRST_IMITATOR) continue;
    alike[at] = exactOf(codes[at]) || nearOf(codes[at]);
    any ||= alike[at] > 0;
  }
  if (!any) return spans;
  const words = readWords(codes, alike);
  const chosen = wordsToFold(words);
  const folded = new Uint8Array(codes.length);
  const out = Uint32Array.from(codes);
  for (const word of chosen) {
    for (let at = word.start; at < word.end; at++) {
      if (!alike[at]) continue;
      folded[at] = 1;
      out[at] = alike[at];
    }
  }
  return dropMarksOf(folded, codes, new Spans(out, spans.starts, spans.ends));
}

/** Counts of each word: a run of letters, digits and marks. */
function readWords(codes, alike) {
  const words = [];
  let word = null;
  for (let at = 0; at < codes.length; at++) {
    const role = roleOf(codes[at]);
    if (role < DIGIT) {
      word = null;
      continue;
    }
    if (word === null) {
      word = { start: at, end: at, letters: 0, latin: 0, foreign: 0, exacts: 0, alikes: 0, greek: 0, scripts: 0 };
      words.push(word);
    }
    word.end = at + 1;
    if (role >= OTHER) word.letters++;
    if (role === LATIN) word.latin++;
    if (role > LATIN) word.foreign++;
    if (role === GREEK) word.greek++;
    if (role >= LATIN) word.scripts |= 1 << (role - LATIN);
    if (exactOf(codes[at])) word.exacts++;
    if (alike[at]) word.alikes++;
  }
  return words;
}

function wordsToFold(words) {
  let imitations = 0, foreign = 0, letters = 0, latin = 0;
  for (const word of words) {
    const mixesScripts = (word.scripts & (word.scripts - 1)) > 0;
    // A disguised word may hold a few letters without a look-alike; with many it is a compound such as USB + noun.
    word.mixed = mixesScripts && word.alikes > 0 && 4 * (word.foreign - word.alikes) <= word.letters;
    word.whole = !word.mixed && word.exacts === word.letters && word.letters > 0;
    // A single Greek letter is a unit or a part of a chemical's name.
    word.whole &&= word.letters > 1 || word.greek === 0;
    if (word.whole) imitations += word.letters;
    if (!word.mixed) foreign += word.foreign;
    letters += word.letters;
    latin += word.latin + (word.mixed ? word.alikes : 0);
  }
  const whole = 2 * latin > letters && imitations > foreign - imitations;
  return words.filter((word) => word.mixed || (whole && word.whole));
}

/** Drop marks on a folded letter: they belong to the disguise, and might compose with the new letter. */
function dropMarksOf(folded, codes, spans) {
  const kept = [];
  let base = 0;
  for (let at = 0; at < codes.length; at++) {
    const mark = roleOf(codes[at]) === MARK;
    if (!mark) base = at;
    if (!(mark && folded[base])) kept.push(at);
  }
  return kept.length === codes.length ? spans : spans.take(Uint32Array.from(kept));
}
