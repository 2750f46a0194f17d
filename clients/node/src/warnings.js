// What a caller should know about a text before trusting its decision (serve/warnings.py, data/language.py).

import { isLetter, isUpper, LETTERS, OTHER_LANGUAGE_WORDS, shadow, toText, WHITE, WORD } from "./characters.js";
import { knownWords } from "./spelling.js";

const CHARACTERS_READ = 100_000, MOST_OTHER_LETTERS = 0.25, FEWEST_OTHER_LETTERS = 3, LEAST_KNOWN = 0.5;
const KNOWN_BEFOREHAND = 4, SHORTEST_WORD = 2, LONGEST_CODE = 4;
const FEWEST_WORDS = 4, WORDS_OF_A_SHELL = 40;
const LATIN_ABOVE_ASCII = [
  [0xaa, 0xaa], [0xba, 0xba], [0xc0, 0xd6], [0xd8, 0xf6], [0xf8, 0x24f], [0x1e00, 0x1eff],
];
const ANY_WORD = new RegExp(`[${WORD}]+`, "g");
const LETTER_WORD = new RegExp(`[${LETTERS}]+`, "g");
const EDGE = `(?:(?<=[${WORD}])(?![${WORD}])|(?<![${WORD}])(?=[${WORD}]))`; // \b
const SHELL = new RegExp(
  [
    `${EDGE}loading[${WHITE}]*(?:\\.|…|$)`,
    `java ?script.{0,60}${EDGE}(?:enabled?|disabled|required|off|work|run)${EDGE}`,
    `${EDGE}(?:enable|need|needs|requires?|without|turn on)${EDGE}.{0,40}java ?script`,
    `please wait|just a moment|checking your browser|redirect(?:ing|ed)${EDGE}|access denied|are you (?:a )?human`,
    "not a robot|under construction|coming soon",
  ].join("|"),
  "im",
);

/** The warnings about a text: its clean code points, whether some was not read, and the languages of the model. */
export function textWarnings(codes, truncated, languages) {
  const warnings = [];
  if (languages.length === 1 && languages[0] === "en" && !isEnglish(codes)) warnings.push("language");
  if (isThin(codes)) warnings.push("thin page");
  if (truncated) warnings.push("truncated");
  return warnings;
}

/** Whether clean text may be English; a text too short to tell may be. */
export function isEnglish(codes) {
  const read = codes.slice(0, CHARACTERS_READ);
  const letters = read.reduce((sum, code) => sum + isLetter(code), 0);
  const other = read.reduce((sum, code) => sum + isOther(code), 0);
  if (other >= FEWEST_OTHER_LETTERS && other / Math.max(1, letters) > MOST_OTHER_LETTERS) return false;
  const words = distinctWords(read);
  if (!words.length) return true;
  const foreign = words.filter((word) => OTHER_LANGUAGE_WORDS.has(word)).length;
  const known = words.filter((word) => knownWords().has(word) && !OTHER_LANGUAGE_WORDS.has(word)).length;
  const beforehand = Math.max(0, KNOWN_BEFOREHAND - foreign);
  return (known + beforehand) / (words.length + beforehand) >= LEAST_KNOWN;
}

function isOther(code) {
  if (code < 0x80 || !isLetter(code)) return false;
  return !LATIN_ABOVE_ASCII.some(([first, last]) => code >= first && code <= last);
}

function distinctWords(codes) {
  const loud = isUpper(codes);
  const words = new Set();
  for (const match of shadow(codes).matchAll(ANY_WORD)) {
    const word = codes.slice(match.index, match.index + match[0].length);
    if (isCounted(word, loud)) words.add(toText(word).toLowerCase());
  }
  return [...words];
}

/** Whether a run of letters, digits and low lines is a word: sizes, model numbers and short codes are none. */
function isCounted(word, loud) {
  if (word.length < SHORTEST_WORD || !word.every(isLetter)) return false;
  return loud || word.length > LONGEST_CODE || !isUpper(word);
}

/** Whether clean text has too few words to judge, or hardly more than a notice that the page is not there yet. */
export function isThin(codes) {
  const text = shadow(codes);
  let words = 0;
  for (const _ of text.matchAll(LETTER_WORD)) if (++words === WORDS_OF_A_SHELL) return false;
  return words < FEWEST_WORDS || SHELL.test(text);
}
