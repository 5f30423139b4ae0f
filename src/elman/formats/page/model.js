"use strict";

/* A recurrent language model, one symbol at a time: the equations of elman.numpy. */

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

/* A step writes the state of n hidden units after a symbol: h, and after it the c of an LSTM.
   x = W_ih x_t + b_ih and r = W_hh h + b_hh have a block of n for each gate, in its order. */
const CELLS = {
  rnn: {
    states: 1,
    step(x, r, before, after, n) {
      for (let k = 0; k < n; k++) after[k] = Math.tanh(x[k] + r[k]);
    },
  },
  "rnn-relu": {
    states: 1,
    step(x, r, before, after, n) {
      for (let k = 0; k < n; k++) after[k] = Math.max(x[k] + r[k], 0);
    },
  },
  gru: {
    states: 1,
    step(x, r, before, after, n) {
      for (let k = 0; k < n; k++) {
        const reset = sigmoid(x[k] + r[k]);
        const z = sigmoid(x[n + k] + r[n + k]);
        const candidate = Math.tanh(x[2 * n + k] + reset * r[2 * n + k]);
        after[k] = (1 - z) * candidate + z * before[k];
      }
    },
  },
  lstm: {
    states: 2,
    step(x, r, before, after, n) {
      for (let k = 0; k < n; k++) {
        const i = sigmoid(x[k] + r[k]);
        const f = sigmoid(x[n + k] + r[n + k]);
        const g = Math.tanh(x[2 * n + k] + r[2 * n + k]);
        const o = sigmoid(x[3 * n + k] + r[3 * n + k]);
        const c = f * before[n + k] + i * g;
        after[k] = o * Math.tanh(c);
        after[n + k] = c;
      }
    },
  },
  mingru: {
    states: 1,
    step(x, r, before, after, n) {
      for (let k = 0; k < n; k++) {
        const z = sigmoid(x[k]);
        after[k] = (1 - z) * before[k] + z * x[n + k];
      }
    },
  },
};

/** weight · vector + bias, with a weight of (rows, columns). */
function product(weight, vector, bias) {
  const rows = bias.length;
  const columns = vector.length;
  const sums = new Float32Array(rows);
  let row = 0;
  for (; row + 4 <= rows; row += 4) { // four sums that do not wait for each other
    const a = row * columns;
    const b = a + columns;
    const c = b + columns;
    const d = c + columns;
    let sumA = 0;
    let sumB = 0;
    let sumC = 0;
    let sumD = 0;
    for (let k = 0; k < columns; k++) {
      const value = vector[k];
      sumA += weight[a + k] * value;
      sumB += weight[b + k] * value;
      sumC += weight[c + k] * value;
      sumD += weight[d + k] * value;
    }
    sums[row] = sumA + bias[row];
    sums[row + 1] = sumB + bias[row + 1];
    sums[row + 2] = sumC + bias[row + 2];
    sums[row + 3] = sumD + bias[row + 3];
  }
  for (; row < rows; row++) {
    let sum = 0;
    for (let k = 0; k < columns; k++) sum += weight[row * columns + k] * vector[k];
    sums[row] = sum + bias[row];
  }
  return sums;
}

class Model {
  static MAX_TABLE = 1 << 24; // numbers of inputs that are kept

  constructor({ cell, hidden, layers, vocab, half, shapes }, base64) {
    this.cell = CELLS[cell];
    this.hidden = hidden;
    this.layers = layers;
    this.vocab = vocab;
    this.weights = decodeWeights(shapes, half, base64);
    this.layerSize = this.cell.states * hidden;
    this.inputs = new Map();
  }

  /** The state before anything is read: that of each layer, one after the other. */
  zero() {
    return new Float32Array(this.layers * this.layerSize);
  }

  /** The state after a symbol. */
  step(id, before) {
    const { hidden, layerSize, weights } = this;
    const after = this.zero();
    let x = this.input(id);
    for (let layer = 0; layer < this.layers; layer++) {
      const own = before.subarray(layer * layerSize, (layer + 1) * layerSize);
      const next = after.subarray(layer * layerSize, (layer + 1) * layerSize);
      if (layer > 0) {
        x = product(
          weights[`rnn.weight_ih_l${layer}`],
          this.h(after, layer - 1),
          weights[`rnn.bias_ih_l${layer}`],
        );
      }
      const recurrent = weights[`rnn.weight_hh_l${layer}`];
      const r = recurrent
        ? product(recurrent, this.h(before, layer), weights[`rnn.bias_hh_l${layer}`])
        : null;
      this.cell.step(x, r, own, next, hidden);
    }
    return after;
  }

  /** The hidden state of a layer. */
  h(state, layer) {
    const start = layer * this.layerSize;
    return state.subarray(start, start + this.hidden);
  }

  /** W_ih x + b_ih of the first layer, for a symbol. */
  input(id) {
    let found = this.inputs.get(id);
    if (!found) {
      found = this.computeInput(id);
      if (this.inputs.size * found.length >= Model.MAX_TABLE) this.inputs.clear();
      this.inputs.set(id, found);
    }
    return found;
  }

  computeInput(id) {
    const weight = this.weights["rnn.weight_ih_l0"];
    const bias = this.weights["rnn.bias_ih_l0"];
    const table = this.weights["embedding.weight"];
    if (!table) return bias.map((value, row) => weight[row * this.vocab + id] + value);
    const size = table.length / this.vocab;
    return product(weight, table.subarray(id * size, (id + 1) * size), bias);
  }

  /** The logits of the next symbol after a state. */
  logits(state) {
    const weight = this.weights["linear.weight"] ?? this.weights["embedding.weight"];
    return product(weight, this.h(state, this.layers - 1), this.weights["linear.bias"]);
  }
}

/** Weights by name, from the bytes of all, one after the other. */
function decodeWeights(shapes, half, base64) {
  const characters = atob(base64);
  const bytes = new Uint8Array(characters.length);
  for (let k = 0; k < bytes.length; k++) bytes[k] = characters.charCodeAt(k);
  const values = half
    ? singlePrecision(new Uint16Array(bytes.buffer))
    : new Float32Array(bytes.buffer);
  const weights = {};
  let start = 0;
  for (const [name, shape] of Object.entries(shapes)) {
    const end = start + shape.reduce((one, two) => one * two);
    weights[name] = values.subarray(start, end);
    start = end;
  }
  return weights;
}

/** Numbers of half precision, given by their bits, all of which are finite. */
function singlePrecision(halves) {
  const table = new Float32Array(1 << 16);
  for (let bits = 0; bits < table.length; bits++) {
    const exponent = (bits >> 10) & 31;
    const fraction = (bits & 1023) / 1024;
    const size = exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14;
    table[bits] = bits >> 15 ? -size : size;
  }
  const singles = new Float32Array(halves.length);
  for (let k = 0; k < halves.length; k++) singles[k] = table[halves[k]];
  return singles;
}
