// Decoding words spelt to escape notice: "v a p e", "v4pe" (data/cleaning/disguised_words.py).

import { ALPHANUMERIC, isMark, shadow } from "./characters.js";
import { Spans } from "./normalise.js";
import { decodeOnes, findSplitWords, isWord } from "./spelling.js";

const LETTER_OF = { 0: "o", 3: "e", 4: "a", 5: "s", 7: "t", 8: "b", 9: "g", "@": "a", $: "s", "!": "i" };
const ONE_IS_L = /(?:(?<![a-z])|(?<=[aeiou]))1(?=[aeiouy])|(?<=[bcfgkp])1(?=[aeiou])|(?<=[aeu])1(?![aeioun])/gi;
const SET_APART = new RegExp(
  `(?<![${ALPHANUMERIC}])[A-Za-z0-9@$]([ .\\-_*/|~])[A-Za-z0-9@$](?:\\1[A-Za-z0-9@$]){2,}(?![${ALPHANUMERIC}])`,
  "g",
);
const LETTERS_SET_APART = 3;
const STAND_IN = /[A-Za-z][01345789@$!]|[01345789@$!][A-Za-z]/;
const WORDS = /(?:[A-Za-z0-9@$]|(?<=[a-z0-9@$])!(?=[a-z0-9@$])){4,}/g;
const INNER = /(?<=[A-Za-z])[01345789@$!]{1,4}(?=[A-Za-z])/g;
const NO_LETTERS = /[26]|[0-9@$!]{5}|![0-9]{2}/;
const NO_WORD = /[26]|[0-9@$!]{5}|^[A-Za-z]+[0-9]+s?$|![0-9]{2}/;
const ONE_AT_AN_END = /^(?:[0-9@][A-Za-z]+|[A-Za-z]+[0-9@!])$/;
const NUMBER = /^[0-9]|\$[0-9]|[0-9]{3}/;
const ADDRESS = /@[A-Za-z0-9-]*\.[A-Za-z]/;

/** The text with disguised words decoded, and whether there were any. */
export function readDisguised(spans) {
  let read = spans;
  let text = shadow(read.codes);
  const apart = separators(text);
  if (apart.size) {
    read = without(read, apart);
    text = shadow(read.codes);
  }
  const broken = findSplitWords(text);
  if (broken.length) {
    read = without(read, new Set(broken));
    text = shadow(read.codes);
  }
  const codes = STAND_IN.test(text) ? withLetters(text, read.codes) : null;
  if (codes !== null) read = new Spans(codes, read.starts, read.ends);
  return { spans: read, changed: read !== spans };
}

function without(spans, dropped) {
  const kept = [];
  for (let at = 0; at < spans.codes.length; at++) if (!dropped.has(at)) kept.push(at);
  return spans.take(Uint32Array.from(kept));
}

/** Positions between letters that are set apart. */
function separators(text) {
  const found = new Set();
  for (const match of text.matchAll(SET_APART)) {
    const letters = [...match[0]].filter((unit, at) => at % 2 === 0 && /[A-Za-z]/.test(unit)).length;
    if (letters < LETTERS_SET_APART) continue;
    for (let at = 1; at < match[0].length; at += 2) found.add(match.index + at);
  }
  return found;
}

/** The codes with letters in place of digits and signs; null where none stands for a letter. */
function withLetters(text, codes) {
  let out = null;
  for (const match of text.matchAll(WORDS)) {
    const reading = readingOf(match[0]);
    if (reading === null || goesOn(text, codes, match)) continue;
    out ??= Uint32Array.from(codes);
    for (let at = 0; at < reading.length; at++) out[match.index + at] = reading.charCodeAt(at);
  }
  return out;
}

const isAlpha = (word) => /^[A-Za-z]+$/.test(word);
const countLetters = (word) => word.replace(/[^A-Za-z]/g, "").length;

/** What the word stands for: a word of the list, else letter by letter; null if nothing in it stands for a letter. */
function readingOf(word) {
  if (isAlpha(word)) return null;
  const letters = word.replace(/[0345789@$!]/g, (sign) => LETTER_OF[sign]);
  if (countLetters(word) >= 2 && !counts(word) && !NO_LETTERS.test(word)) {
    const listed = decodeOnes(letters);
    if (listed !== null) return same(listed, word);
  }
  return isDisguised(word) ? same(letters.replace(ONE_IS_L, "l").replaceAll("1", "i"), word) : null;
}

const same = (reading, word) => (reading === word ? null : reading);

/** Whether the rest is a word once a digit or sign at one end is taken off. */
function counts(word) {
  return ONE_AT_AN_END.test(word) && isWord(word.replace(/^[0-9@!]+|[0-9@!]+$/g, ""));
}

function isDisguised(word) {
  const inner = word.match(INNER) ?? [];
  if (!inner.length || NO_WORD.test(word)) return false;
  if (NUMBER.test(word) && inner.length < 2) return false;
  const letters = countLetters(word);
  // "A1B2" is a code: a disguise has more letters, or signs that codes do not use.
  return letters >= 3 || (2 * letters >= word.length && word !== word.toUpperCase()) || /[@$!]/.test(word);
}

/** Whether the word is part of an address, or its last character carries a mark that would join a letter. */
function goesOn(text, codes, match) {
  const end = match.index + match[0].length;
  if (match[0].includes("@") && ADDRESS.test(text.slice(match.index, end + 64))) return true;
  return end < codes.length && isMark(codes[end]);
}
