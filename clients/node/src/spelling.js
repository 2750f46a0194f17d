// Joining broken words with the help of a word list (data/cleaning/spelling.py).

import { existsSync, readFileSync } from "node:fs";

import { ALPHANUMERIC, LETTERS, SHORT_WORDS, WHITE } from "./characters.js";

const EDGE = `${WHITE}"#%&()*+,\\-./:;<=>?\\[\\]^_\`{|}~\\u2010-\\u2015\\u201c-\\u201f\\u2022\\u2026`;
const PIECE = new RegExp(`(?<![^${EDGE}])[${LETTERS}]+(?![^${EDGE}!]|![${ALPHANUMERIC}])`, "g");
const SEPARATORS = new Set(" -~/+,.*_|");
const NEVER_BETWEEN_WORDS = new Set("~+*_|,/");
const MOST_PIECES = 4, SHORTEST = 4, LONGEST = 24, MOST_PIECES_READ = 100_000, MOST_ONES = 3;

let words = null;

/** All words of the list, lower case. The packed module has the list beside it; in a checkout it is Python's. */
export function knownWords() {
  if (words === null) {
    const packed = new URL("../data/words.txt", import.meta.url);
    const path = existsSync(packed) ? packed : new URL("../../../data/cleaning/words.txt", import.meta.url);
    words = new Set([...readFileSync(path, "ascii").split(/\s+/).filter(Boolean), ...SHORT_WORDS]);
  }
  return words;
}

export const isWord = (word) => knownWords().has(word.toLowerCase());

/** Positions of the characters of a shadow that split a word; where candidate words overlap, the longest is taken. */
export function findSplitWords(text) {
  const pieces = readPieces(text);
  const strange = pieces.map(([start, end]) => !isWord(text.slice(start, end)));
  const firsts = new Set();
  for (let number = 0; number < pieces.length - 1; number++) {
    if (!(strange[number] || strange[number + 1] || NEVER_BETWEEN_WORDS.has(text[pieces[number][1]]))) continue;
    for (let first = Math.max(0, number - MOST_PIECES + 2); first <= number; first++) firsts.add(first);
  }
  const found = [...firsts].flatMap((first) => wordsFrom(text, pieces, strange, first));
  found.sort((a, b) => b.length - a.length || a.bySpace - b.bySpace || a.start - b.start);
  return withoutOverlap(found, pieces);
}

function withoutOverlap(found, pieces) {
  const positions = [];
  const taken = new Set();
  for (const { first, last } of found) {
    let free = true;
    for (let number = first; number <= last; number++) free &&= !taken.has(number);
    if (!free) continue;
    for (let number = first; number <= last; number++) taken.add(number);
    for (let number = first; number < last; number++) positions.push(pieces[number][1]);
  }
  return positions;
}

function readPieces(text) {
  const pieces = [];
  for (const match of text.matchAll(PIECE)) {
    if (pieces.length === MOST_PIECES_READ) break;
    pieces.push([match.index, match.index + match[0].length]);
  }
  return pieces;
}

/** The broken words that begin with piece `first`. */
function wordsFrom(text, pieces, strange, first) {
  const [start] = pieces[first];
  let end = pieces[first][1];
  const separator = text[end];
  if (!SEPARATORS.has(separator)) return [];
  const found = [];
  let joined = text.slice(start, end);
  let odd = strange[first] || NEVER_BETWEEN_WORDS.has(separator);
  for (let last = first + 1; last < Math.min(first + MOST_PIECES, pieces.length); last++) {
    const begin = pieces[last][0];
    if (begin !== end + 1 || text[end] !== separator) return found;
    end = pieces[last][1];
    joined += text.slice(begin, end);
    odd ||= strange[last];
    if (joined.length > LONGEST) return found;
    if (odd && joined.length >= SHORTEST && isWord(joined)) {
      found.push({ first, last, start, length: end - start, bySpace: separator === " " ? 1 : 0 });
    }
  }
  return found;
}

/** The word of the list that `word`, which may hold the digit 1 for i or l, stands for; null if there is none. */
export function decodeOnes(word) {
  const parts = word.split("1");
  const ones = parts.length - 1;
  if (ones > MOST_ONES) return null;
  for (let choice = 0; choice < 2 ** ones; choice++) {
    let reading = parts[0];
    for (let at = 0; at < ones; at++) reading += ((choice >> (ones - 1 - at)) & 1 ? "l" : "i") + parts[at + 1];
    if (isWord(reading)) return reading;
  }
  return null;
}
