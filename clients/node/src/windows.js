// Cutting clean text into overlapping windows of tokens (data/windows.py).

import tokenizers from "tokenizers";

import { isSpace, toText } from "./characters.js";

const CHARACTERS_PER_TOKEN = 16;
const PAD_TOKENS = ["[PAD]", "<pad>", "<|padding|>", "<|pad|>"];

/** Token ids of a piece of text, and the code points [start, end) of each; special tokens have [0, 0]. */
export class Window {
  constructor(ids, offsets) {
    this.ids = ids;
    this.offsets = offsets;
    const inside = offsets.filter(([start, end]) => end > start);
    this.start = inside.length ? inside.reduce((least, [start]) => Math.min(least, start), Infinity) : 0;
    this.end = inside.reduce((most, [, end]) => Math.max(most, end), 0);
  }
}

export class WindowTokenizer {
  /** @param {object} content of tokenizer.json */
  constructor(content, { windowTokens, strideTokens, maxWindows }) {
    const special = (content.added_tokens ?? []).filter((token) => token.special);
    this.padId = content.padding?.pad_id ?? padId(content);
    // This build cannot be told to read "[SEP]" in a text as five characters: without the entry it knows no other way.
    // The special tokens around a text come from the post-processor, which has ids of its own.
    const added = (content.added_tokens ?? []).filter((token) => !special.includes(token));
    this.tokenizer = tokenizers.Tokenizer.fromString(
      JSON.stringify({ ...content, added_tokens: added, truncation: null, padding: null }),
    );
    this.windowTokens = windowTokens;
    this.strideTokens = strideTokens;
    this.maxWindows = maxWindows;
    this.mostCharacters = CHARACTERS_PER_TOKEN * maxWindows * windowTokens;
  }

  /** Read a tokenizer, and how many tokens of text its special tokens leave in a window. */
  static async create(content, sizes) {
    const tokenizer = new WindowTokenizer(content, sizes);
    const empty = await tokenizer.tokenizer.encode("");
    tokenizer.room = sizes.windowTokens - empty.getLength();
    if (!(tokenizer.strideTokens >= 0 && tokenizer.strideTokens < tokenizer.room)) {
      throw new RangeError(`stride_tokens ${sizes.strideTokens} does not fit windows with room for ${tokenizer.room} tokens`);
    }
    return tokenizer;
  }

  /** Windows of clean text (code points), and whether some of the text is in none. */
  async encode(codes) {
    const cut = codes.length > this.mostCharacters && !codes.slice(this.mostCharacters).every(isSpace);
    const encoding = await this.tokenizer.encode(toText(codes.slice(0, this.mostCharacters)));
    const ids = encoding.getIds(), offsets = encoding.getOffsets(), special = encoding.getSpecialTokensMask();
    let first = special.indexOf(0), end = special.lastIndexOf(0) + 1;
    if (first < 0) first = end = special.length;
    const before = ids.slice(0, first), after = ids.slice(end);
    const last = Math.max(end - this.strideTokens, first + 1);
    const windows = [];
    let count = 0;
    for (let start = first; start < last; start += this.room - this.strideTokens) {
      if (++count > this.maxWindows) break;
      windows.push(windowAt(ids, offsets, before, after, start, Math.min(start + this.room, end)));
    }
    return { windows, truncated: cut || count > this.maxWindows };
  }
}

function windowAt(ids, offsets, before, after, start, end) {
  const none = (tokens) => tokens.map(() => [0, 0]);
  return new Window(
    [...before, ...ids.slice(start, end), ...after],
    [...none(before), ...offsets.slice(start, end), ...none(after)],
  );
}

function padId(content) {
  const vocabulary = content.model?.vocab ?? {};
  const added = content.added_tokens ?? [];
  for (const token of PAD_TOKENS) {
    const found = added.find((each) => each.content === token)?.id ?? (Array.isArray(vocabulary) ? undefined : vocabulary[token]);
    if (found !== undefined) return found;
  }
  return 0; // padding is masked
}
