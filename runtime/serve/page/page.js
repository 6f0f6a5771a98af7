// Reads the stream of messages (see feed.py) and shows them. All addresses are relative: the page works under any path.
import { SPAN, draw, push, topOf } from "./chart.js";

const TEXT_COLOUR = "#e6e8ea";
const RETRY = 1000, POLL = 2000, REDRAW = 200;  // ms
const MOST_FACES = 6;  // with a chart; the picture shows all faces
const byId = (id) => document.getElementById(id);
const faces = new Map();  // track -> {expressions: {name: points}, disagreement: points, seen, label, canvas}
const latency = { total: [], age: [] };
const problems = { stream: "", frames: "", refusal: "" };  // current problems by kind
let palette = ["rgb(200, 200, 200)"], names = [], now = 0, rates = [];

const colourOf = (index) => palette[index % palette.length];

async function* messages(reader) {
  let rest = new Uint8Array(0);
  const take = async (count) => {
    const parts = [rest];
    let length = rest.length;
    while (length < count) {
      const { value, done } = await reader.read();
      if (done) return null;
      parts.push(value);
      length += value.length;
    }
    const all = new Uint8Array(length);
    parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
    rest = all.subarray(count);
    return all.subarray(0, count);
  };
  for (;;) {
    const head = await take(8);
    if (!head) return;
    const view = new DataView(head.buffer, head.byteOffset);
    const [text, jpeg] = [await take(view.getUint32(0)), await take(view.getUint32(4))];
    if (!text || !jpeg) return;
    yield [JSON.parse(new TextDecoder().decode(text)), jpeg];
  }
}

async function watch() {
  try {
    const response = await fetch("stream");
    if (!response.ok) throw new Error(await response.text());
    for await (const [message, jpeg] of messages(response.body.getReader())) {
      problems.stream = message.problem || "";
      if (jpeg.length) await show(jpeg);
      remember(message);
    }
    problems.stream = "the connection has ended; trying again";
  } catch (error) {
    problems.stream = `${error.message.trim()}; trying again`;
  }
  setTimeout(watch, RETRY);
}

async function show(jpeg) {
  const picture = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
  const canvas = byId("picture");
  if (canvas.width !== picture.width) canvas.width = picture.width;
  if (canvas.height !== picture.height) canvas.height = picture.height;
  canvas.getContext("2d").drawImage(picture, 0, 0);
  picture.close();
}

function remember(message) {
  if (message.clock === now) return;  // the last message was repeated to keep the connection open
  if (message.clock < now) clear();  // the machine was restarted
  now = message.clock;
  rates.push([message.frames, now]);
  while (rates[0][1] < now - 3) rates.shift();
  if (message.problem) return;
  for (const name of ["total", "age"]) push(latency[name], now, message.latency_ms[name]);
  message.faces.forEach((face, index) => {
    const history = faceOf(String(face.track ?? index));
    names = Object.keys(face.probabilities);
    for (const name of names) push(history.expressions[name] ??= [], now, face.probabilities[name]);
    byId("dependence").hidden = !("disagreement" in face);  // a model with one stratum has none
    if ("disagreement" in face) push(history.disagreement, now, face.disagreement);
    history.seen = now;
    history.label = face.uncertain ? "uncertain" : `${face.expression} ${Math.round(100 * face.probability)}%`;
  });
  for (const [key, face] of faces) if (face.seen < now - SPAN) drop(key);
  byId("figures").textContent = figures(message);
}

function figures(message) {
  const [first, last] = [rates[0], rates[rates.length - 1]];
  const rate = last[1] > first[1] ? (last[0] - first[0]) / (last[1] - first[1]) : 0;
  const { total, age } = message.latency_ms;
  const count = message.faces.length;
  return `${count} ${count === 1 ? "face" : "faces"} · ${rate.toFixed(1)} frames per second · ${total.toFixed(0)} ms per frame · ` +
    `picture ${age.toFixed(0)} ms old · ${message.dropped} frames dropped`;
}

function faceOf(key) {
  if (!faces.has(key)) {
    if (faces.size >= MOST_FACES) drop([...faces.keys()].reduce((a, b) => faces.get(a).seen < faces.get(b).seen ? a : b));
    const canvas = document.createElement("canvas");
    canvas.className = "chart";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Expressions of face ${key} over the last minute`);
    byId("faces").append(canvas);
    faces.set(key, { expressions: {}, disagreement: [], seen: now, label: "", canvas });
  }
  return faces.get(key);
}

function drop(key) {
  faces.get(key).canvas.remove();
  faces.delete(key);
}

function clear() {
  for (const key of [...faces.keys()]) drop(key);
  for (const points of Object.values(latency)) points.length = 0;
  rates = [];
}

function redraw() {
  const shown = [...faces].map(([key, face], index) => ({ ...face, name: `face ${key}`, colour: colourOf(index + 1) }));
  for (const { canvas, expressions, name, seen, label } of shown) {
    const series = Object.entries(expressions).map(([of, points]) => ({ colour: colourOf(names.indexOf(of)), points }));
    draw(canvas, series, now, 1, [[`${name}: ${seen < now - 1 ? "not visible" : label}`, TEXT_COLOUR]]);
  }
  const disagreements = shown.map(({ name, colour, disagreement }) => ({ name, colour, points: disagreement }));
  const times = [{ name: "delay", colour: colourOf(1), points: latency.age },
    { name: "processing", colour: colourOf(2), points: latency.total }];
  for (const [id, series, least] of [["disagreement", disagreements, 0.01], ["latency", times, 10]]) {
    draw(byId(id), series, now, topOf(series, least), series.map(({ name, colour }) => [name, colour]));
  }
  legend();
  byId("problem").textContent = Object.values(problems).filter(Boolean).join("; ");
}

function legend() {
  const place = byId("legend");
  if (place.dataset.names === names.join()) return;
  place.dataset.names = names.join();
  place.replaceChildren(...names.map((name, index) => {
    const entry = document.createElement("span");
    entry.textContent = `― ${name}`;
    entry.style.color = colourOf(index);
    return entry;
  }));
}

async function poll() {
  try {
    const response = await fetch("state");
    if (!response.ok) return;
    const state = await response.json();
    palette = state.palette;
    problems.frames = state.stalled ? "no new frames" : "";
    byId("controls").hidden = !state.controls;
    if (state.controls) showControls(state.controls);
  } catch { /* `watch` reports that the server cannot be reached */ }
}

function showControls({ recording, sources, source, log }) {
  byId("record").setAttribute("aria-pressed", String(recording));
  byId("record").textContent = recording ? "Stop recording" : "Record";
  byId("log").hidden = !log;
  byId("choice").hidden = sources.length < 2;
  const list = byId("source");
  if (list.dataset.names !== sources.join("\n")) {
    list.dataset.names = sources.join("\n");
    list.replaceChildren(...sources.map((name) => new Option(name, name)));
  }
  if (document.activeElement !== list) list.value = source;
}

async function post(address, body) {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(address, { method: "POST", headers, body: JSON.stringify(body) });
  problems.refusal = response.ok ? "" : (await response.text()).trim();
  await poll();
}

byId("record").addEventListener("click", (event) => post("recording", { on: event.target.getAttribute("aria-pressed") !== "true" }));
byId("source").addEventListener("change", (event) => { event.target.blur(); post("source", { name: event.target.value }); });
byId("controls").addEventListener("submit", (event) => event.preventDefault());
setInterval(redraw, REDRAW);
setInterval(poll, POLL);
poll();
watch();
