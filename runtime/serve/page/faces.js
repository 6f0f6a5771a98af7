// The list of the faces: those in the picture, and for a moment those that have just left it.
import { draw, push, topOf } from "./chart.js";
import { explain } from "./explain.js";

const ABSENT = 0.7, LEAVE = 3;  // seconds of the server's clock without a face: it counts as gone, it leaves the list
const MOST = 6;  // faces with a chart; the picture shows all
const ANNOUNCE = 5000;  // ms between two announcements for a screen reader
const OTHERS = 2, LEAST_LISTED = 0.005;  // expressions that are listed after the first, and their least probability
const LEAST_NAMED = 0.06;  // probability of an expression whose line has its name in the chart
const faces = new Map();  // track -> {expressions: {name: points}, disagreement: points, seen, latest, item}
const byId = (id) => document.getElementById(id);
const percent = (share) => `${Math.round(100 * share)} %`;
let names = [], announced = "", announcedAt = -Infinity, unlisted = 0;

/** Keeps the faces of a record at `now`, in seconds of the server's clock. */
export function keep(record, now) {
  const seen = record.faces.map((face, index) => [keyOf(face, index), face]);
  const known = seen.filter(([key]) => faces.has(key));
  const added = seen.filter(([key]) => !faces.has(key)).slice(0, Math.max(0, MOST - known.length));
  unlisted = seen.length - known.length - added.length;
  for (const [key, face] of [...known, ...added]) {
    const history = faces.get(key) ?? enter(key);
    names = Object.keys(face.probabilities);
    for (const name of names) push(history.expressions[name] ??= [], now, face.probabilities[name]);
    if ("disagreement" in face) push(history.disagreement, now, face.disagreement);
    history.seen = now;
    history.latest = face;
  }
  for (const [key, { seen: last }] of faces) if (last < now - LEAVE || (last < now && faces.size > MOST)) leave(key);
}

/** Forgets all faces. */
export function forget() {
  for (const key of [...faces.keys()]) leave(key);
}

/** Shows the list as of `now`: the faces that are in the picture come first, each group by age. */
export function show(now) {
  const here = [...faces].sort(([, a], [, b]) => isGone(a, now) - isGone(b, now));
  const list = byId("faces"), items = here.map(([, face]) => face.item);
  if (items.some((item, place) => list.children[place] !== item)) reorder(list, items);
  for (const [key, face] of here) showFace(key, face, now);
  const present = here.filter(([, face]) => !isGone(face, now));
  byId("more").hidden = !unlisted;
  byId("more").textContent = `${unlisted} more in the picture.`;
  const disagreements = present.filter(([, face]) => "disagreement" in face.latest)
    .map(([key, face], index) => ({ name: `face ${key}`, index: index + 1, points: face.disagreement }));
  byId("dependence").hidden = !disagreements.length;
  if (disagreements.length) draw(byId("disagreement"), disagreements, now, topOf(disagreements, 0.01));
  announce(present);
}

/** The number of a face, with the name of its source if there are several. */
const keyOf = (face, index) => [face.track ?? index, face.source].filter((part) => part !== undefined).join(", ");

const isGone = (face, now) => face.seen < now - ABSENT;

function enter(key) {
  const item = byId("face-template").content.firstElementChild.cloneNode(true);
  item.querySelector("h3").textContent = `Face ${key}`;
  item.querySelector("canvas").setAttribute("aria-label", `Probability of each expression of face ${key} over the last minute`);
  item.querySelectorAll(".term").forEach(explain);
  byId("faces").append(item);
  const face = { expressions: {}, disagreement: [], seen: 0, latest: null, item };
  faces.set(key, face);
  byId("nobody").hidden = true;
  return face;
}

function leave(key) {
  const { item } = faces.get(key);
  if (item.contains(document.activeElement)) byId("faces-title").focus();  // or the keyboard would be at the page's top
  item.remove();
  faces.delete(key);
  byId("nobody").hidden = faces.size > 0;
}

/** Moves the items into their order, without moving the one that has the focus. */
function reorder(list, items) {
  const focused = items.findIndex((item) => item.contains(document.activeElement));
  if (focused < 0) return list.append(...items);
  list.prepend(...items.slice(0, focused));
  list.append(...items.slice(focused + 1));
}

function showFace(key, { expressions, latest, seen, item }, now) {
  const gone = isGone({ seen }, now), part = (name) => item.querySelector(name);
  item.classList.toggle("gone", gone);
  const ranked = Object.entries(latest.probabilities).sort(([, a], [, b]) => b - a)
    .filter(([name, share]) => name !== latest.expression && share >= LEAST_LISTED);
  write(part("h3"), gone ? `Face ${key}, gone` : `Face ${key}`);
  write(part(".expression"), latest.uncertain ? `(${latest.expression})` : latest.expression);
  write(part(".likeliest"), percent(latest.probability));
  part(".unsure").hidden = !latest.uncertain;
  write(part(".others"), ranked.slice(0, OTHERS).map(([name, share]) => `${name} ${percent(share)}`).join(", "));
  part(".depends").hidden = !("disagreement" in latest);
  if ("disagreement" in latest) write(part(".depends span"), latest.disagreement.toFixed(4));
  const series = Object.entries(expressions).map(([name, points]) => ({ name, index: names.indexOf(name), points }));
  draw(part("canvas"), series, now, 1, { written: percent, leastNamed: LEAST_NAMED });
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Tells a screen reader who is in the picture, but only when that changed, and rarely. */
function announce(present) {
  const label = ({ expression, uncertain }) => (uncertain ? "uncertain" : expression);
  const text = present.length ? present.map(([key, { latest }]) => `Face ${key}: ${label(latest)}`).join(". ") : "No face";
  if (text === announced || performance.now() < announcedAt + ANNOUNCE) return;
  byId("announcement").textContent = announced = text;
  announcedAt = performance.now();
}
