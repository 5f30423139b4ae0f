/* What the page shows of a reading: its symbols, the odds at one place, the hidden units. */

const byId = (id) => document.getElementById(id);

const SMALLEST = 1e-9; // activation that colors are relative to, so that zeros are nothing

const percent = (share) => (share < 0.0005 ? "<0.1 %" : `${(100 * share).toFixed(1)} %`);

class View {
  static ALTERNATIVES = 10;

  constructor(reading) {
    this.reading = reading;
    this.codec = reading.codec;
    this.place = 0; // of the symbol whose odds are shown; the next one's after all
    this.unit = 0; // of all layers, those of the first first
    this.typed = 0; // symbols of the person; the others are the model's
    this.symbols = byId("reading");
    this.mostBits = Math.max(8, Math.log2(reading.model.vocab));
    this.rows = Array.from({ length: View.ALTERNATIVES + 1 }, () => new AlternativeRow());
    byId("odds").append(...this.rows.map((row) => row.item));
    this.cells = this.makeUnits();
  }

  makeUnits() {
    const { hidden, layers } = this.reading.model;
    const cells = [];
    for (let layer = 0; layer < layers; layer++) {
      const row = document.createElement("div");
      for (let k = 0; k < hidden; k++) cells.push(row.appendChild(document.createElement("i")));
      byId("units").append(row);
    }
    byId("units").style.setProperty("--side", `${cells.length > 600 ? 8 : 14}px`);
    byId("unit").max = cells.length - 1;
    return cells;
  }

  get color() {
    return this.symbols.dataset.color;
  }

  get isAtEnd() {
    return this.place === this.reading.length;
  }

  /** Forget the shown symbols from a place on. */
  cut(length) {
    while (this.symbols.childElementCount > length) this.symbols.lastChild.remove();
  }

  /** Show the symbols that were read since, and what belongs to the place. */
  draw() {
    const before = this.symbols.childElementCount;
    const added = document.createDocumentFragment();
    for (let place = before; place < this.reading.length; place++) {
      added.append(this.symbol(place));
    }
    this.symbols.append(added);
    if (this.isAtEnd) this.symbols.scrollTop = this.symbols.scrollHeight;
    byId("position").max = this.reading.length;
    this.drawPlace();
  }

  symbol(place) {
    const id = this.reading.ids[place];
    const symbol = document.createElement("span");
    symbol.textContent = this.codec.shown(id);
    symbol.classList.toggle("spelled", this.codec.isSpelled(id));
    symbol.classList.toggle("line-end", symbol.textContent.startsWith("\n"));
    symbol.classList.toggle("written", place >= this.typed);
    this.paint(symbol, place);
    return symbol;
  }

  /** Color the symbol at a place by its surprise or by the chosen unit. */
  paint(symbol, place) {
    const bits = this.reading.bits[place] || 0; // none of one that nothing predicts
    if (this.color === "surprise") setLevel(symbol, bits / this.mostBits);
    else setLevel(symbol, this.activation(this.unit, place + 1) / this.largest);
  }

  /** Activation of a unit when the symbols before a place were read. */
  activation(unit, place) {
    const { model } = this.reading;
    const layer = Math.floor(unit / model.hidden);
    return model.h(this.reading.stateAt(place), layer)[unit % model.hidden];
  }

  /** Color all symbols anew, by "surprise" or by "unit". */
  repaint(color) {
    this.symbols.dataset.color = color;
    this.largest = SMALLEST;
    for (let place = 1; place <= this.reading.length; place++) {
      this.largest = Math.max(this.largest, Math.abs(this.activation(this.unit, place)));
    }
    [...this.symbols.children].forEach((symbol, place) => this.paint(symbol, place));
    const bits = `${Math.round(this.mostBits)} bits or more`;
    byId("least").textContent = color === "surprise" ? "0" : (-this.largest).toFixed(2);
    byId("most").textContent = color === "surprise" ? bits : this.largest.toFixed(2);
    this.drawPlace();
  }

  /** Choose the symbol whose odds are shown. */
  choose(place) {
    this.place = place;
    this.drawPlace();
    if (this.chosen) this.scrollTo(this.chosen);
  }

  /** Scroll the symbols, but not the page, so that one of them can be seen. */
  scrollTo({ offsetTop, offsetHeight }) {
    const { clientHeight, scrollTop } = this.symbols;
    const least = offsetTop + 2 * offsetHeight - clientHeight; // with the next line
    this.symbols.scrollTop = Math.max(least, Math.min(offsetTop - offsetHeight, scrollTop));
  }

  /** Show all symbols as the person's. */
  keep() {
    this.typed = this.reading.length;
    for (const symbol of this.symbols.children) symbol.classList.remove("written");
  }

  drawPlace() {
    this.chosen?.classList.remove("chosen");
    this.chosen = this.symbols.children[this.place];
    this.chosen?.classList.add("chosen");
    this.drawOdds();
    this.drawUnits();
    byId("position").value = this.place;
    byId("position").setAttribute("aria-valuetext", this.describePlace());
  }

  describePlace() {
    if (this.isAtEnd) return "the next symbol";
    const { ids, length } = this.reading;
    const symbol = `symbol ${this.place + 1} of ${length}, ${this.codec.spoken(ids[this.place])}`;
    const bits = this.reading.bits[this.place];
    return Number.isNaN(bits) ? symbol : `${symbol}, ${bits.toFixed(1)} bits`;
  }

  drawOdds() {
    const { ids } = this.reading;
    const odds = this.reading.odds(this.place);
    const own = this.isAtEnd ? null : ids[this.place];
    const isOpen = this.place >= this.typed && this.place < this.reading.room;
    byId("odds-title").textContent = this.isAtEnd ? "Next symbol" : `Symbol ${this.place + 1}`;
    byId("odds-note").textContent = this.describeOdds(odds, own);
    const shown = odds ? likeliest(odds, View.ALTERNATIVES) : [];
    if (odds && own !== null && !shown.includes(own)) shown.push(own);
    this.rows.forEach((row, number) => {
      const id = shown[number];
      row.show(id, odds?.[id], this.codec, id === own, isOpen);
    });
  }

  describeOdds(odds, own) {
    if (!odds) return "The model has read nothing yet, and expects nothing.";
    if (own === null) return "What the model expects to come next:";
    const bits = this.reading.bits[this.place].toFixed(2);
    const rank = odds.reduce((sum, share) => sum + (share > odds[own]), 1);
    const came = `${this.codec.label(own)} came: ${bits} bits, number ${rank} of ${odds.length}.`;
    return `${came} The model expected:`;
  }

  drawUnits() {
    const after = Math.min(this.place + 1, this.reading.length); // the symbol is read
    const values = this.cells.map((_, unit) => this.activation(unit, after));
    const largest = values.reduce((one, two) => Math.max(one, Math.abs(two)), SMALLEST);
    this.cells.forEach((cell, unit) => {
      setLevel(cell, values[unit] / largest);
      cell.classList.toggle("chosen", unit === this.unit);
    });
    const { hidden, layers } = this.reading.model;
    const layer = layers > 1 ? `layer ${Math.floor(this.unit / hidden) + 1}, ` : "";
    const name = `${layer}unit ${(this.unit % hidden) + 1}`;
    byId("unit-note").textContent = `${name}: ${values[this.unit].toFixed(3)}`;
    byId("unit").setAttribute("aria-valuetext", byId("unit-note").textContent);
  }
}

/** A level from -1 to 1, as the style shows it. */
function setLevel(element, level) {
  element.style.setProperty("--level", Math.min(1, Math.abs(level)).toFixed(3));
  element.classList.toggle("negative", level < 0);
}

/** Ids of the likeliest symbols, the likeliest first; of equals, the lower id. */
function likeliest(odds, number) {
  const found = [];
  odds.forEach((share, id) => {
    if (found.length === number && share <= odds[found.at(-1)]) return;
    const place = found.findIndex((other) => share > odds[other]);
    found.splice(place < 0 ? found.length : place, 0, id);
    found.length = Math.min(found.length, number);
  });
  return found;
}

/** A row of the list of odds: a button that writes its symbol. */
class AlternativeRow {
  constructor() {
    this.item = document.createElement("li");
    this.button = this.item.appendChild(document.createElement("button"));
    this.button.type = "button";
    [this.symbol, this.bar, this.share] = ["symbol", "bar", "share"].map((name) => {
      const part = this.button.appendChild(document.createElement("span"));
      part.className = name;
      return part;
    });
  }

  show(id, share, codec, isOwn, isOpen) {
    this.item.hidden = id === undefined;
    if (this.item.hidden) return;
    this.button.value = id;
    this.button.disabled = !isOpen || id === codec.unknown;
    this.item.classList.toggle("own", isOwn);
    this.symbol.textContent = codec.label(id);
    this.bar.style.setProperty("--share", share);
    this.share.textContent = percent(share);
    this.button.ariaLabel = `${codec.spoken(id)}, ${percent(share)}`;
  }
}
