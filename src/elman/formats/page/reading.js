/* A text as a model reads it, symbol by symbol. */

class Reading {
  static MAX_SYMBOLS = 10000;
  static MAX_NUMBERS = 1 << 26; // of all states

  constructor(model, codec) {
    this.model = model;
    this.codec = codec;
    this.ids = [];
    this.bits = []; // surprise of each symbol, NaN for one that nothing predicts
    this.states = []; // after each symbol
    this.start = codec.lines ? model.step(codec.start, model.zero()) : model.zero();
    this.room = Math.min(
      Reading.MAX_SYMBOLS,
      Math.floor(Reading.MAX_NUMBERS / this.start.length),
    );
  }

  get length() {
    return this.ids.length;
  }

  get isFull() {
    return this.length >= this.room;
  }

  /** Read one more symbol. A model of lines begins each line from its first state. */
  push(id) {
    const { codec, model } = this;
    const odds = this.odds(this.length);
    const begins = codec.lines && id === codec.start;
    this.states.push(begins ? this.start : model.step(id, this.stateAt(this.length)));
    this.bits.push(odds ? -Math.log2(odds[id]) : NaN);
    this.ids.push(id);
    this.last = null;
  }

  /** Forget all symbols but the first ones. */
  cut(length) {
    for (const list of [this.ids, this.bits, this.states]) list.length = length;
    this.last = null;
  }

  /** The state before the symbol at a place. */
  stateAt(place) {
    return place > 0 ? this.states[place - 1] : this.start;
  }

  /** The logits of the symbol at a place; null where the model has read nothing. */
  logits(place) {
    if (place === 0 && !this.codec.lines) return null;
    if (place < this.length) return this.model.logits(this.stateAt(place));
    this.last ??= this.model.logits(this.stateAt(place));
    return this.last;
  }

  /** The probability of each symbol at a place; null where the model has read nothing. */
  odds(place) {
    const logits = this.logits(place);
    return logits && softmax(logits, 1);
  }

  /** Id of a next symbol, drawn at a temperature with a number from 0 to below 1. */
  draw(temperature, random) {
    const { start, unknown } = this.codec;
    const logits = this.logits(this.length);
    if (!logits) return start; // a text begins as after the end of a line
    const known = logits.map((value, id) => (id === unknown ? -Infinity : value));
    if (temperature === 0) return known.indexOf(known.reduce((one, two) => Math.max(one, two)));
    const odds = softmax(known, temperature);
    const total = odds.reduce((one, two) => one + two); // not quite 1
    let sum = 0;
    return odds.findIndex((share) => (sum += share) > random * total);
  }
}

/** Probabilities from logits, at a temperature above 0. */
function softmax(logits, temperature) {
  const largest = logits.reduce((one, two) => Math.max(one, two));
  const shares = Float64Array.from(logits, (value) => Math.exp((value - largest) / temperature));
  const sum = shares.reduce((one, two) => one + two);
  return shares.map((share) => share / sum);
}
