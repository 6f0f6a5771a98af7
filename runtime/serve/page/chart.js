// Draws line charts of the last minute on a canvas. A series is {name, index, points: [[seconds, value], ...]}: its index
// chooses colour and dashes, and its name stands at the line, so that nobody has to tell lines apart by colour.

export const SPAN = 60;  // seconds
const GAP = 2;  // seconds without a value after which a line is interrupted
const AXIS = 18, RIGHT = 86, LEFT = 54, TOP = 8;  // pixels around the lines
const TICKS = [60, 45, 30, 15, 0], FEW_TICKS = [60, 30, 0];  // seconds ago
const NARROW = 320;  // pixels between the ends of the axis, below which there are few ticks
const LINE = 14;  // pixels between two names
const LEAST_PEAK = 0.3;  // of the chart's height: a line that was so high has a name at its peak
const FONT = "12px system-ui, sans-serif";
const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3], [14, 4], [4, 2], [1, 2], [9, 2, 2, 2, 2, 2]];
const STEPS = [1, 2, 5, 10];
let palette = ["rgb(200, 200, 200)"];

/** Sets the colours of the series by index, as CSS texts such as "rgb(1, 2, 3)". */
export function setPalette(colours) {
  palette = colours;
}

/** Returns the least of 1, 2, 5, 10, 20, ... that is at least `least` and every value of the series. */
export function topOf(series, least) {
  const highest = Math.max(least, ...series.flatMap(({ points }) => points.map(([, value]) => value)));
  const power = 10 ** Math.floor(Math.log10(highest));
  return Number((power * STEPS.find((step) => step * power >= highest * 0.999)).toPrecision(1));
}

/** Adds a point, and removes the points that are older than the chart. */
export function push(points, time, value) {
  points.push([time, value]);
  while (points[0][0] < time - SPAN) points.shift();
}

/**
 * Draws every series until `now` (seconds), from 0 to `top`. `written` makes the text of a value at the axis. A line that
 * ends below `leastNamed` has no name at its end.
 */
export function draw(canvas, series, now, top, { written = String, leastNamed = 0 } = {}) {
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width) return;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.font = FONT;
  const style = getComputedStyle(canvas);
  const colours = { panel: style.backgroundColor, ink: style.color, faint: token(style, "--muted"), line: token(style, "--line") };
  const right = width - RIGHT, bottom = height - AXIS;
  const x = (time) => right - (now - time) / SPAN * (right - LEFT);
  const y = (value) => bottom - Math.min(value / top, 1) * (bottom - TOP);
  axes(pen, { x: (ago) => x(now - ago), y, top, right, bottom, written }, colours);
  const names = [];
  for (const { name, index, points } of series) {
    if (!points.length) continue;
    const colour = readable(palette[index % palette.length], colours.panel);
    line(pen, points, x, y, colour, DASHES[index % DASHES.length]);
    names.push(...placesOf(name, points, now, { x, y, top, right, colour, index, leastNamed }));
  }
  writeNames(pen, names, right, bottom, colours);
}

const token = (style, name) => style.getPropertyValue(name).trim();

function axes(pen, { x, y, top, right, bottom, written }, { faint, line: grid }) {
  pen.strokeStyle = grid;
  pen.fillStyle = faint;
  pen.lineWidth = 1;
  pen.textAlign = "right";
  for (const share of [0, 0.5, 1]) {
    const level = Math.round(y(share * top)) + 0.5;
    stroke(pen, [[LEFT, level], [right, level]]);
    pen.fillText(written(share * top), LEFT - 4, level + 4);
  }
  for (const ago of right - LEFT < NARROW ? FEW_TICKS : TICKS) {
    const at = Math.round(x(ago)) + 0.5;
    stroke(pen, [[at, bottom], [at, bottom + 4]]);
    pen.textAlign = ago === SPAN ? "left" : "center";
    pen.fillText(ago ? `${ago}${ago === SPAN ? " s ago" : ""}` : "now", ago === SPAN ? at - 4 : at, bottom + 15);
  }
  pen.textAlign = "left";
}

function stroke(pen, corners) {
  pen.beginPath();
  for (const [x, y] of corners) pen.lineTo(x, y);
  pen.stroke();
}

function line(pen, points, x, y, colour, dashes) {
  pen.save();
  pen.beginPath();
  pen.rect(LEFT, 0, pen.canvas.width, pen.canvas.height);
  pen.clip();
  pen.strokeStyle = colour;
  pen.lineWidth = 2;
  pen.lineJoin = "round";
  pen.setLineDash(dashes);
  pen.beginPath();
  let previous = -Infinity;
  for (const [time, value] of points) {
    if (time - previous > GAP) pen.moveTo(x(time), y(value)); else pen.lineTo(x(time), y(value));
    previous = time;
  }
  pen.stroke();
  pen.restore();
}

/** The places of a series' name: at its end if that is high enough, or else at its peak. */
function placesOf(name, points, now, { x, y, top, right, colour, index, leastNamed }) {
  const [time, value] = points[points.length - 1];
  if (now - time <= GAP && value >= leastNamed) return [{ name, colour, index, atEnd: true, from: y(value), y: y(value), value }];
  const peak = points.reduce((best, point) => (point[1] > best[1] ? point : best));
  if (peak[1] < LEAST_PEAK * top) return [];
  return [{ name, colour, index, atEnd: false, x: Math.min(x(peak[0]), right - 50), y: y(peak[1]) + 12, value: peak[1] }];
}

function writeNames(pen, names, right, bottom, { panel, ink }) {
  const atEnd = names.filter((each) => each.atEnd).sort((a, b) => b.value - a.value).slice(0, Math.floor((bottom - TOP) / LINE));
  spread(atEnd, bottom);
  for (const { name, colour, index, from, y } of atEnd) {
    pen.strokeStyle = colour;
    pen.lineWidth = 2;
    pen.setLineDash([]);
    stroke(pen, [[right + 2, from], [right + 8, y], [right + 12, y]]);
    pen.fillStyle = ink;
    pen.fillText(name, right + 15, y + 4, RIGHT - 16);
  }
  const taken = [];
  for (const { name, x, y } of names.filter((each) => !each.atEnd).sort((a, b) => b.value - a.value)) {
    const wide = pen.measureText(name).width;
    const left = Math.max(LEFT + 2, x - wide / 2);
    if (taken.some((box) => left < box.right && box.left < left + wide && Math.abs(box.y - y) < LINE)) continue;
    taken.push({ left, right: left + wide, y });
    pen.strokeStyle = panel;  // a halo: the lines do not cross the letters
    pen.lineWidth = 4;
    pen.setLineDash([]);
    pen.strokeText(name, left, y);
    pen.fillStyle = ink;
    pen.fillText(name, left, y);
  }
}

/** Moves names that are too close apart, in their order from top to bottom. */
function spread(names, bottom) {
  names.sort((a, b) => a.y - b.y);
  let least = TOP;
  for (const each of names) least = (each.y = Math.max(each.y, least)) + LINE;
  let most = bottom;
  for (const each of [...names].reverse()) most = (each.y = Math.min(each.y, most)) - LINE;
}

/** The colour, made darker or lighter until it has the contrast 3 with the background (WCAG 2.2, 1.4.11). */
export function readable(colour, background) {
  const ground = numbers(background), towards = luminance(ground) > 0.3 ? 0 : 255;
  let mixed = numbers(colour);
  for (let step = 0; step < 12 && contrast(mixed, ground) < 3; step++) mixed = mixed.map((part) => part + 0.12 * (towards - part));
  return `rgb(${mixed.map(Math.round).join(", ")})`;
}

const numbers = (colour) => colour.match(/[\d.]+/g).slice(0, 3).map(Number);

function luminance(colour) {
  const [red, green, blue] = colour.map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one, other) {
  const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}
