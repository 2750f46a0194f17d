// What cleaning knows about single characters, from tables that the Python reference wrote (make_tables.py).
//
// Texts are arrays of code points here, since JavaScript's strings are UTF-16 and all offsets of the bundle format are
// code points. Regular expressions run on a "shadow" of the text: a string with one UTF-16 unit for each code point, in
// which a character outside ASCII stands as its class. So an index in the shadow is an index in the text, and JavaScript's own
// ideas of \s, \w and letters never come into play.

import { readFileSync } from "node:fs";

const LAST = 0x110000;
export const SIMPLE = 1, DROPPED = 2, EXPANDED = 3, JOINING = 4;
export const NOT_IN_WORD = 1, DIGIT = 2, MARK = 3, OTHER = 4, LATIN = 5, GREEK = 7;
const LETTER_CLASS = 0xe001, DECIMAL_CLASS = 0xe002, NUMERIC_CLASS = 0xe003, OTHER_CLASS = 0xe004, TAB = 9;
// Punctuation that the patterns name.
const NAMED = "‐‑‒–—―“”„‟’»•·…。！？";

const tables = JSON.parse(readFileSync(new URL("../data/unicode.json", import.meta.url), "utf8"));

/** Version of cleaning that this port implements. */
export const CLEANING_VERSION = tables.cleaning_version;
export const SHORT_WORDS = tables.short_words.split(" ");
export const OTHER_LANGUAGE_WORDS = new Set(tables.other_language_words.split(" "));

const BECOMES = new Map(Object.entries(tables.becomes).map(([code, text]) => [parseInt(code, 16), codePoints(text)]));
const EXACT = letters(tables.exact), NEAR = letters(tables.near);
const KIND = new Uint8Array(LAST).fill(SIMPLE);
for (const [code, text] of BECOMES) if (text.length > 1) KIND[code] = EXPANDED;
fill(KIND, tables.dropped, DROPPED);
fill(KIND, tables.joining, JOINING);
const ROLE = new Uint8Array(LAST).fill(NOT_IN_WORD);
for (const [first, last, role] of tables.roles) ROLE.fill(role, first, last + 1);
const COMBINING = flags(tables.combining);
const SPACE = flags(tables.space);
const UPPER = flags(tables.upper);
const LOWER = flags(tables.lower);
const SHADOW = shadowTable();

function fill(table, ranges, value) {
  for (const [first, last] of ranges) table.fill(value, first, last + 1);
}

function flags(ranges) {
  const table = new Uint8Array(LAST);
  fill(table, ranges, 1);
  return table;
}

function letters(table) {
  return new Map(Object.entries(table).map(([code, letter]) => [parseInt(code, 16), letter.charCodeAt(0)]));
}

function shadowTable() {
  const table = new Uint16Array(LAST).fill(OTHER_CLASS);
  fill(table, tables.word, NUMERIC_CLASS);
  for (const [first, last, role] of tables.roles) if (role >= OTHER) table.fill(LETTER_CLASS, first, last + 1);
  fill(table, tables.decimal, DECIMAL_CLASS);
  fill(table, tables.space, TAB);
  for (let code = 0; code < 0x80; code++) table[code] = code;
  for (const character of NAMED) table[character.charCodeAt(0)] = character.charCodeAt(0);
  return table;
}

/** Code points of a string; a lone surrogate is one of its own. */
export function codePoints(text) {
  const codes = new Uint32Array(text.length);
  let count = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.codePointAt(at);
    if (code > 0xffff) at++;
    codes[count++] = code;
  }
  return codes.slice(0, count);
}

/** The string of code points. */
export function toText(codes) {
  const parts = [];
  for (let at = 0; at < codes.length; at += 8192) parts.push(String.fromCodePoint(...codes.slice(at, at + 8192)));
  return parts.join("");
}

/** The text for patterns: as many UTF-16 units as there are code points. */
export function shadow(codes) {
  const units = new Uint16Array(codes.length);
  for (let at = 0; at < codes.length; at++) units[at] = SHADOW[codes[at]];
  return Buffer.from(units.buffer).toString("utf16le");
}

// The classes of Python's patterns, for use between brackets and in patterns on a shadow.
export const WORD = "A-Za-z0-9_\\ue001-\\ue003"; // \w
export const ALPHANUMERIC = "A-Za-z0-9\\ue001-\\ue003"; // [^\W_]
export const LETTERS = "A-Za-z\\ue001\\ue003"; // [^\W\d_]
export const WHITE = " \\t\\n\\r\\v\\f\\x1c-\\x1f"; // \s

export const kindOf = (code) => KIND[code];
export const roleOf = (code) => ROLE[code];
export const exactOf = (code) => EXACT.get(code) ?? 0;
export const nearOf = (code) => NEAR.get(code) ?? 0;
export const becomes = (code) => BECOMES.get(code);
export const isMark = (code) => ROLE[code] === MARK;
export const isCombining = (code) => COMBINING[code] === 1;
export const isLetter = (code) => ROLE[code] >= OTHER;
export const isSpace = (code) => SPACE[code] === 1;

/** Python's str.isupper: some cased character, and all of them upper case. */
export function isUpper(codes) {
  let cased = false;
  for (const code of codes) {
    if (LOWER[code]) return false;
    if (UPPER[code]) cased = true;
  }
  return cased;
}
