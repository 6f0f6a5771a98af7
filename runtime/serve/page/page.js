// Shows the loop: its picture, faces, figures and controls. All addresses are relative: the page works under any path.
import { draw, push, setPalette, topOf } from "./chart.js";
import * as controls from "./controls.js";
import * as explanations from "./explain.js";
import * as faces from "./faces.js";
import * as photo from "./photo.js";
import { messages } from "./stream.js";

const RETRY = 1000, POLL = 2000, REDRAW = 200, CALM_REDRAW = 1000;  // ms
const RATE_SPAN = 3;  // seconds over which the rate is counted
const byId = (id) => document.getElementById(id);
const latency = { total: [], age: [] };
const problems = { stream: "", frames: "", refusal: "" };  // current problems by kind
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let now = 0, rates = [], shownJpeg = null, latest = null;

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
  shownJpeg = jpeg.slice();
  byId("snapshot").disabled = false;
}

function remember(message) {
  if (message.clock === now) return;  // the last message was repeated to keep the connection open
  if (message.clock < now) clear();  // the machine was restarted
  now = message.clock;
  rates.push([message.frames, now]);
  while (rates[0][1] < now - RATE_SPAN) rates.shift();
  if (message.problem) return;
  for (const name of ["total", "age"]) push(latency[name], now, message.latency_ms[name]);
  faces.keep(message, now);
  latest = message;
}

function clear() {
  faces.forget();
  for (const points of Object.values(latency)) points.length = 0;
  rates = [];
}

function redraw() {
  byId("problem").textContent = Object.values(problems).filter(Boolean).join("; ");
  if (!latest || document.hidden) return;
  faces.show(now);
  const times = [{ name: "age", index: 1, points: latency.age }, { name: "processing", index: 2, points: latency.total }];
  const written = (value) => (value >= 1000 ? `${value / 1000} s` : `${value} ms`);
  draw(byId("latency"), times, now, topOf(times, 10), { written });
  const [first, last] = [rates[0], rates[rates.length - 1]];
  const rate = last[1] > first[1] ? (last[0] - first[0]) / (last[1] - first[1]) : 0;
  byId("fps").textContent = rate.toFixed(1);
  byId("processing").textContent = `${latest.latency_ms.total.toFixed(0)} ms`;
  byId("age").textContent = `${latest.latency_ms.age.toFixed(0)} ms`;
  byId("dropped").textContent = String(latest.dropped);
}

async function poll() {
  try {
    const response = await fetch("state");
    if (!response.ok) return;
    const state = await response.json();
    setPalette(state.palette);
    problems.frames = state.stalled ? "no new frames" : "";
    explanations.describe(state.about);
    photo.show(state.photos);
    controls.show(state.controls);
  } catch { /* `watch` reports that the server cannot be reached */ }
}

/** Saves the picture that is shown, byte for byte as it came. */
function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([shownJpeg], { type: "image/jpeg" }));
  link.download = `iern_${new Date().toISOString().replace(/\D/g, "").slice(0, 14)}.jpg`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function keepDrawing() {
  redraw();
  setTimeout(keepDrawing, calm.matches ? CALM_REDRAW : REDRAW);
}

byId("snapshot").addEventListener("click", save);
controls.start((reason) => { problems.refusal = reason; }, poll);
explanations.start();
photo.start();
setInterval(poll, POLL);
poll();
watch();
keepDrawing();
