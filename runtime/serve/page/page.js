// Reads the stream of messages (see feed.py) and shows them. All addresses are relative: the page may lie anywhere.
import { SPAN, draw, push, topOf } from "./chart.js";

const INK = "#e6e8ea";
const RETRY = 1000, POLL = 2000, REDRAW = 200;  // ms
const MOST_FACES = 6;  // charts; more faces are in the picture
const byId = (id) => document.getElementById(id);
const faces = new Map();  // key -> {expressions: {name: points}, disagreement: points, seen, canvas}
const latency = { total: [], age: [] };
const trouble = { stream: "", frames: "", refusal: "" };  // what is wrong, by who noticed
let palette = ["rgb(200, 200, 200)"], names = [], now = 0, rates = [];

const colourOf = (index) => palette[index % palette.length];

async function* messages(reader) {
  let held = new Uint8Array(0);
  const take = async (count) => {
    const parts = [held];
    let length = held.length;
    while (length < count) {
      const { value, done } = await reader.read();
      if (done) return null;
      parts.push(value);
      length += value.length;
    }
    const all = new Uint8Array(length);
    parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
    held = all.subarray(count);
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
    for await (const [about, jpeg] of messages(response.body.getReader())) {
      trouble.stream = about.problem || "";
      if (jpeg.length) await show(jpeg);
      remember(about);
    }
    trouble.stream = "the stream has ended; trying again";
  } catch (error) {
    trouble.stream = `${error.message.trim()}; trying again`;
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

function remember(about) {
  if (about.clock === now) return;  // the last one again, to keep the line
  if (about.clock < now) forget();  // the machine was started anew
  now = about.clock;
  rates.push([about.frames, now]);
  while (rates[0][1] < now - 3) rates.shift();
  if (about.problem) return;
  for (const name of ["total", "age"]) push(latency[name], now, about.latency_ms[name]);
  about.faces.forEach((face, index) => {
    const kept = faceOf(String(face.track ?? index));
    names = Object.keys(face.probabilities);
    for (const name of names) push(kept.expressions[name] ??= [], now, face.probabilities[name]);
    push(kept.disagreement, now, face.disagreement);
    kept.seen = now;
    kept.answer = face.uncertain ? "uncertain" : `${face.expression} ${Math.round(100 * face.probability)}%`;
  });
  for (const [key, face] of faces) if (face.seen < now - SPAN) drop(key);
  byId("figures").textContent = figures(about);
}

function figures(about) {
  const [first, last] = [rates[0], rates[rates.length - 1]];
  const rate = last[1] > first[1] ? (last[0] - first[0]) / (last[1] - first[1]) : 0;
  const { total, age } = about.latency_ms;
  const count = about.faces.length;
  return `${rate.toFixed(1)} fps · ${total.toFixed(0)} ms · ${age.toFixed(0)} ms old · ` +
    `${count} ${count === 1 ? "face" : "faces"} · ${about.dropped} dropped`;
}

function faceOf(key) {
  if (!faces.has(key)) {
    if (faces.size >= MOST_FACES) drop([...faces.keys()].reduce((a, b) => faces.get(a).seen < faces.get(b).seen ? a : b));
    const canvas = document.createElement("canvas");
    canvas.className = "chart";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Expressions of face ${key} over the last minute`);
    byId("faces").append(canvas);
    faces.set(key, { expressions: {}, disagreement: [], seen: now, answer: "", canvas });
  }
  return faces.get(key);
}

function drop(key) {
  faces.get(key).canvas.remove();
  faces.delete(key);
}

function forget() {
  for (const key of [...faces.keys()]) drop(key);
  for (const points of Object.values(latency)) points.length = 0;
  rates = [];
}

function redraw() {
  const shown = [...faces].map(([key, face], index) => ({ ...face, name: `face ${key}`, colour: colourOf(index + 1) }));
  for (const { canvas, expressions, name, seen, answer } of shown) {
    const series = Object.entries(expressions).map(([of, points]) => ({ colour: colourOf(names.indexOf(of)), points }));
    draw(canvas, series, now, 1, [[`${name}: ${seen < now - 1 ? "gone" : answer}`, INK]]);
  }
  const doubts = shown.map(({ name, colour, disagreement }) => ({ name, colour, points: disagreement }));
  const stages = [{ name: "age", colour: colourOf(1), points: latency.age },
    { name: "in the loop", colour: colourOf(2), points: latency.total }];
  for (const [id, series, least] of [["disagreement", doubts, 0.01], ["latency", stages, 10]]) {
    draw(byId(id), series, now, topOf(series, least), series.map(({ name, colour }) => [name, colour]));
  }
  legend();
  byId("problem").textContent = Object.values(trouble).filter(Boolean).join("; ");
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
    trouble.frames = state.stalled ? "no frames come" : "";
    byId("controls").hidden = !state.controls;
    if (state.controls) showControls(state.controls);
  } catch { /* the stream says what is wrong */ }
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

async function ask(address, body) {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(address, { method: "POST", headers, body: JSON.stringify(body) });
  trouble.refusal = response.ok ? "" : (await response.text()).trim();
  await poll();
}

byId("record").addEventListener("click", (event) => ask("recording", { on: event.target.getAttribute("aria-pressed") !== "true" }));
byId("source").addEventListener("change", (event) => { event.target.blur(); ask("source", { name: event.target.value }); });
byId("controls").addEventListener("submit", (event) => event.preventDefault());
setInterval(redraw, REDRAW);
setInterval(poll, POLL);
poll();
watch();
