/* Texts as ids of symbols, and back, as elman's tokenizers have them. */

// White space is Unicode's in the pattern of byte pairs, GPT-2's, and Python's in all others.
const PAIRS = new RegExp(
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\p{White_Space}\\p{L}\\p{N}]+" +
    "|\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+",
  "gu",
);
// What could not be seen in a text: control characters, unusual spaces, broken bytes.
const HIDDEN = /[^\P{C}\n\t]|[^\P{Z} ]|\ufffd/u;

class Codec {
  constructor(codec) {
    Object.assign(this, codec);
    this.matches = new RegExp(codec.pattern, "gu");
    this.known = new Map(codec.tokens.map((token, id) => [token, id]));
    this.merged = new Map();
    for (let k = 0; k < codec.merges.length; k += 3) {
      const [one, two, id] = codec.merges.slice(k, k + 3);
      this.merged.set(this.pair(one, two), { rank: k, id });
    }
  }

  /** Ids of the symbols of a text. */
  ids(text) {
    if (this.clean) text = text.replace(/[^A-Za-z]+/g, " ").toLowerCase();
    if (this.units === "characters") return this.idsOf([...text]);
    if (this.units === "matches") return this.idsOf(text.match(this.matches) ?? []);
    if (this.units === "bytes") return this.bytes(text);
    return (text.match(PAIRS) ?? []).flatMap((piece) => this.merge(this.bytes(piece)));
  }

  idsOf(tokens) {
    return tokens.map((token) => this.known.get(token) ?? this.unknown);
  }

  bytes(text) {
    return Array.from(new TextEncoder().encode(text), (byte) => this.byteIds[byte]);
  }

  /** Ids with adjacent pairs merged, that of the lowest rank first. */
  merge(ids) {
    for (;;) {
      let best = null;
      for (let k = 0; k + 1 < ids.length; k++) {
        const found = this.merged.get(this.pair(ids[k], ids[k + 1]));
        if (found && (!best || found.rank < best.rank)) best = { ...found, place: k };
      }
      if (!best) return ids;
      ids.splice(best.place, 2, best.id);
    }
  }

  pair(one, two) {
    return one * this.tokens.length + two;
  }

  /** The text of some ids; "�" for bytes that are not UTF-8. */
  text(ids) {
    const text = ids.map((id) => this.tokens[id]).join("");
    if (!this.byteIds.length) return text;
    const bytes = Uint8Array.from(text, (byte) => byte.charCodeAt(0));
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  }

  /** A symbol as it stands in a text, or spelled where it could not be seen. */
  shown(id) {
    const text = this.text([id]);
    return this.isSpelled(id) ? this.spellings[id] : text;
  }

  /** True for the unknown symbol, and for one with control characters or parts of characters. */
  isSpelled(id) {
    return id === this.unknown || HIDDEN.test(this.text([id]));
  }

  /** A symbol on one line, its spaces visible. */
  label(id) {
    return this.spellings[id].replaceAll(" ", "␣");
  }

  /** A symbol as a screen reader says it. */
  spoken(id) {
    return this.spellings[id].replaceAll(" ", " space ").trim();
  }
}
