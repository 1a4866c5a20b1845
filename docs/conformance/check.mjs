// RoBERTa's tokenizer in JavaScript, held to a conformance suite: texts to ids with offsets, ids to texts.
//
//     node check.mjs SUITE
//
// It needs no package. The exit code is 1 where something differs.

import { readFileSync } from "node:fs";
import { join } from "node:path";

const ARRAYS = { F32: Float32Array, F64: Float64Array, I32: Int32Array, U8: Uint8Array, BOOL: Uint8Array };

// --- reading a suite ------------------------------------------------------------------------------------------------

// A function from CASE, role and NAME to a tensor's numbers, of SUITE/tensors.safetensors.
function readTensors(file) {
  const bytes = readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString("utf8"));
  const data = bytes.subarray(8 + length);
  return (of, role, name) => {
    const { dtype, data_offsets } = header[`${of}/${role}/${name}`];
    const copy = Uint8Array.from(data.subarray(...data_offsets)); // which is aligned
    return new ARRAYS[dtype](copy.buffer);
  };
}

// --- the tokenizer --------------------------------------------------------------------------------------------------

// Vocabulary files write byte b as a character: itself where it is seen, else the next one from 256 on.
const CHARACTERS = [];
for (let byte = 0, hidden = 256; byte < 256; byte++) {
  const isSeen = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
  CHARACTERS.push(String.fromCodePoint(isSeen ? byte : hidden++));
}
const BYTES = new Map(CHARACTERS.map((character, byte) => [character, byte]));
const SPACE = CHARACTERS[0x20];

// Whitespace is Unicode's White_Space; JavaScript's own \s has U+FEFF on top and lacks U+0085.
const BLANK = "\\p{White_Space}";
const WORDS = new RegExp(
  `'(?:[stmd]|re|ve|ll)| ?\\p{L}+| ?\\p{N}+| ?[^${BLANK}\\p{L}\\p{N}]+|${BLANK}+(?!\\P{White_Space})|${BLANK}+`,
  "gu",
);

class Tokenizer {
  constructor(directory) {
    const read = (name) => readFileSync(join(directory, name), "utf8");
    this.ids = new Map(Object.entries(JSON.parse(read("vocab.json"))));
    this.tokens = new Map([...this.ids].map(([token, id]) => [id, token]));
    const merges = read("merges.txt").split("\n").slice(1).filter(Boolean);
    this.ranks = new Map(merges.map((pair, rank) => [pair, rank]));
    const special = JSON.parse(read("special_tokens_map.json"));
    this.mask = special.mask_token.content;
    this.start = special.bos_token;
    this.end = special.eos_token;
    const all = [this.start, special.pad_token, this.end, special.unk_token, this.mask];
    this.special = new Set(all.map((token) => this.ids.get(token)));
    this.literals = new RegExp(`(${all.map((token) => token.replace(/\W/g, "\\$&")).join("|")})`);
  }

  // The tokens of a word: the pair of the lowest rank is joined first, of equal ones the leftmost.
  merge(word) {
    const parts = [...new TextEncoder().encode(word)].map((byte) => CHARACTERS[byte]);
    for (;;) {
      let lowest = Infinity;
      let at = -1;
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = this.ranks.get(`${parts[i]} ${parts[i + 1]}`) ?? Infinity;
        if (rank < lowest) [lowest, at] = [rank, i];
      }
      if (at < 0) return parts;
      parts.splice(at, 2, parts[at] + parts[at + 1]);
    }
  }

  // [id, start, stop] of each token. start and stop count characters, which are code points.
  encode(text, addPrefixSpace) {
    const found = [];
    const pieces = text.split(this.literals); // plain, special, plain, special, …, plain
    let place = 0;
    pieces.forEach((piece, i) => {
      if (i % 2) {
        found.push(this.trimmed(piece, place, place + [...piece].length, addPrefixSpace, !found.length));
        place += [...piece].length;
        return;
      }
      // <mask> takes the whitespace before it along
      const absorbed = pieces[i + 1] === this.mask ? piece.match(/\p{White_Space}*$/u)[0] : "";
      if (absorbed) pieces[i + 1] = absorbed + this.mask;
      const plain = piece.slice(0, piece.length - absorbed.length);
      if (plain) this.encodePlain(plain, place, addPrefixSpace, found);
      place += [...plain].length;
    });
    return found;
  }

  encodePlain(piece, begin, addPrefixSpace, found) {
    const isPrefixed = addPrefixSpace && !piece.startsWith(" ");
    let place = isPrefixed ? begin - 1 : begin;
    for (const word of (isPrefixed ? ` ${piece}` : piece).match(WORDS)) {
      const characters = []; // the character of the text that each byte of the word is from
      for (const character of word) {
        for (const _ of new TextEncoder().encode(character)) characters.push(Math.max(place, begin));
        place++;
      }
      let first = 0;
      for (const token of this.merge(word)) {
        const last = first + token.length - 1; // a token has a character for each byte
        found.push(
          this.trimmed(token, characters[first], characters[last] + 1, addPrefixSpace, !found.length),
        );
        first = last + 1;
      }
    }
  }

  // A token's id, and its span without the whitespace at its ends.
  trimmed(token, start, stop, addPrefixSpace, isFirst) {
    const id = this.ids.get(token) ?? this.ids.get(this.mask); // <mask> with the whitespace before it
    const isBlank = (character) => character === SPACE || /\p{White_Space}/u.test(character);
    const characters = [...token];
    const firstSeen = characters.findIndex((character) => !isBlank(character));
    let leading = firstSeen < 0 ? characters.length : firstSeen;
    const trailing = characters.length - 1 - characters.findLastIndex((character) => !isBlank(character));
    if (leading === 1 && addPrefixSpace && (isFirst || start === 0)) leading = 0; // taken for the one in front
    start = Math.min(start + leading, stop);
    if (stop >= trailing) stop = Math.max(stop - trailing, start);
    return [id, start, stop];
  }

  encodePair(text, pair, addSpecialTokens, addPrefixSpace) {
    const [start, end] = [this.start, this.end].map((token) => [this.ids.get(token), 0, 0]);
    const first = this.encode(text, addPrefixSpace);
    const second = pair === null ? [] : this.encode(pair, addPrefixSpace);
    if (!addSpecialTokens) return [...first, ...second];
    return [start, ...first, end, ...(pair === null ? [] : [end, ...second, end])];
  }

  decode(ids, skipSpecialTokens) {
    const bytes = [];
    for (const id of ids) {
      if (this.special.has(id)) {
        if (!skipSpecialTokens) bytes.push(...new TextEncoder().encode(this.tokens.get(id)));
      } else for (const character of this.tokens.get(id)) bytes.push(BYTES.get(character));
    }
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
  }
}

// --- the cases ------------------------------------------------------------------------------------------------------

const [suite] = process.argv.slice(2);
if (!suite) throw new Error("give the directory of a suite");
const { cases } = JSON.parse(readFileSync(join(suite, "suite.json"), "utf8"));
const tensor = readTensors(join(suite, "tensors.safetensors"));
const tokenizer = new Tokenizer(join(suite, "tokenizer"));

const KINDS = {
  tokenize: ({ settings }) => {
    const tokens = tokenizer.encodePair(
      settings.text, settings.pair, settings.add_special_tokens, settings.add_prefix_space,
    );
    return { ids: tokens.map(([id]) => id), offsets: tokens.flatMap(([, ...span]) => span) };
  },
  decode: ({ name, settings }) => {
    const text = tokenizer.decode(tensor(name, "inputs", "ids"), settings.skip_special_tokens);
    return { utf8: [...new TextEncoder().encode(text)] };
  },
};

const counts = { passed: 0, failed: 0 };
for (const one of cases) {
  const kind = KINDS[one.name.split("/")[0]];
  if (!kind) continue;
  const found = kind(one);
  const wrong = one.expected.filter((value) => `${found[value]}` !== `${tensor(one.name, "expected", value)}`);
  counts[wrong.length ? "failed" : "passed"]++;
  for (const value of wrong) {
    console.log(`FAILED ${one.name} ${value}: ${found[value]}, expected ${tensor(one.name, "expected", value)}`);
  }
}
console.log(`${counts.passed} passed, ${counts.failed} failed`);
process.exitCode = counts.failed || !counts.passed ? 1 : 0;
