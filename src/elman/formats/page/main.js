/* The page: what a person does, and work that leaves the page responsive. */

const TURN_MILLISECONDS = 12; // of work, after which the page reacts to a person
const PICTURE_MILLISECONDS = 100; // between two pictures of the work

const parse = (id) => JSON.parse(byId(id).textContent);
const codec = new Codec(parse("codec"));
const model = new Model(parse("model"), byId("weights").textContent);
const reading = new Reading(model, codec);
const view = new View(reading);
const turns = new MessageChannel(); // unlike a timer, it does not wait
let work = null;
let number = 0; // of the work

/** Call `next` until it returns false, turn by turn; then `finished`. */
function begin(next, finished) {
  number += 1;
  work = { next, finished, drawn: performance.now() };
  byId("write").textContent = "Stop";
  turn();
}

function turn() {
  const until = performance.now() + TURN_MILLISECONDS;
  let more = true;
  while (more && performance.now() < until) more = work.next();
  if (!more) return end();
  if (until - work.drawn > PICTURE_MILLISECONDS) {
    view.draw();
    work.drawn = until;
  }
  turns.port2.postMessage(number);
}

turns.port1.onmessage = ({ data }) => {
  if (work && data === number) turn();
};

/** End the work, if there is some, and show what has come of it. */
function end() {
  const { finished } = work ?? {};
  work = null;
  finished?.();
  view.typed = Math.min(view.typed, reading.length); // the reading of a text may be stopped
  view.draw();
  if (view.color === "unit") view.repaint("unit"); // its scale may be another
  byId("write").textContent = "Write on";
  byId("keep").disabled = byId("remove").disabled = reading.length === view.typed;
}

/** Drop the work, and all symbols but the first ones. */
function cut(length) {
  work = null;
  reading.cut(length);
  view.cut(length);
  view.choose(length);
  byId("status").textContent = "";
}

/** Read the person's text, from the first symbol that has changed. */
function read() {
  const ids = codec.ids(byId("text").value);
  byId("hint").textContent = describe(ids);
  const kept = ids.slice(0, reading.room);
  const most = Math.min(kept.length, view.typed);
  let same = 0;
  while (same < most && kept[same] === reading.ids[same]) same++;
  cut(same);
  view.typed = kept.length;
  begin(() => {
    if (reading.length === kept.length) return false;
    push(kept[reading.length]);
    return true;
  });
}

function describe(ids) {
  const unknown = ids.filter((id) => id === codec.unknown).length;
  const facts = [];
  if (codec.clean) facts.push("The model reads small letters a to z, and all else as spaces.");
  if (unknown) facts.push(`Symbols that the model does not know: ${unknown}.`);
  if (ids.length > reading.room) facts.push(`The page holds the first ${reading.room} symbols.`);
  return facts.join(" ");
}

/** Read one more symbol; the place stays after the last if it was there. */
function push(id) {
  const follows = view.isAtEnd;
  reading.push(id);
  if (follows) view.place = reading.length;
}

/** Have the model write on, or stop it. */
function write() {
  if (work) return end();
  if (!byId("count").reportValidity()) return;
  const first = reading.length;
  const last = Math.min(first + byId("count").valueAsNumber, reading.room);
  const temperature = byId("temperature").valueAsNumber;
  view.choose(first);
  byId("status").textContent = "";
  begin(
    () => {
      if (reading.length === last) return false;
      push(reading.draw(temperature, Math.random()));
      return true;
    },
    () => {
      const full = reading.isFull ? `, and the page holds no more than ${reading.room}` : "";
      byId("status").textContent = `The model wrote ${reading.length - first} symbols${full}.`;
    },
  );
}

/** Put another symbol at the place, instead of what the model wrote there and after it. */
function replace(id) {
  cut(view.place);
  push(id);
  end();
}

/** Make what the model wrote a part of the person's text. */
function keep() {
  byId("text").value += codec.text(reading.ids.slice(view.typed));
  view.keep();
  end();
}

/** Take away what the model wrote. */
function remove() {
  cut(view.typed);
  end();
}

function chooseUnit(unit) {
  view.unit = unit;
  byId("unit").value = unit;
  document.querySelector("input[value=unit]").checked = true;
  view.repaint("unit");
}

function showTemperature() {
  byId("temperature-value").textContent = byId("temperature").valueAsNumber.toFixed(2);
}

const on = (id, event, action) => byId(id).addEventListener(event, action);

on("text", "input", read);
on("write", "click", write);
on("keep", "click", keep);
on("remove", "click", remove);
on("temperature", "input", showTemperature);
on("position", "input", () => view.choose(byId("position").valueAsNumber));
on("unit", "input", () => chooseUnit(byId("unit").valueAsNumber));
on("colors", "change", (event) => view.repaint(event.target.value));
on("odds", "click", (event) => {
  const row = event.target.closest("button");
  if (row) replace(Number(row.value));
});
// A click leads to the slider that does the same, whose keys go on from there.
on("reading", "click", (event) => {
  const place = [...byId("reading").children].indexOf(event.target);
  if (place < 0) return;
  view.choose(place);
  byId("position").focus({ preventScroll: true });
});
on("units", "click", (event) => {
  const unit = view.cells.indexOf(event.target);
  if (unit < 0) return;
  chooseUnit(unit);
  byId("unit").focus({ preventScroll: true });
});

showTemperature();
view.repaint("surprise");
write();
