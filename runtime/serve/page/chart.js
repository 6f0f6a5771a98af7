// Draws line charts of the last minute on a canvas. A series is {colour, points: [[seconds, value], ...]}.

export const SPAN = 60;  // seconds
const GAP = 2;  // seconds without a value after which a line is interrupted
const FAINT = "#8b949c", GRID = "#2b3238";

const STEPS = [1, 2, 5, 10];

/** Returns the least of 1, 2, 5, 10, 20, ... that is at least `least` and every value of the series. */
export function topOf(series, least) {
  const highest = Math.max(least, ...series.flatMap(({ points }) => points.map(([, value]) => value)));
  const power = 10 ** Math.floor(Math.log10(highest));
  return Number((power * STEPS.find((step) => step * power >= highest * 0.999)).toPrecision(1));
}

/** Draws every series until `now` (seconds), from 0 to `top`, with captions: [[text, colour], ...]. */
export function draw(canvas, series, now, top, captions) {
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const x = (time) => width - (now - time) / SPAN * width;
  const y = (value) => height - 3 - Math.min(value / top, 1) * (height - 6);
  grid(pen, width, y, top);
  for (const { colour, points } of series) {
    pen.strokeStyle = colour;
    pen.lineWidth = 1.5;
    pen.beginPath();
    let previous = -Infinity;
    for (const [time, value] of points) {
      if (time - previous > GAP) pen.moveTo(x(time), y(value)); else pen.lineTo(x(time), y(value));
      previous = time;
    }
    pen.stroke();
  }
  pen.font = "12px system-ui, sans-serif";
  let left = 6;
  for (const [text, colour] of captions) {
    pen.fillStyle = colour;
    pen.fillText(text, left, 15);
    left += pen.measureText(text).width + 12;
  }
}

function grid(pen, width, y, top) {
  pen.strokeStyle = GRID;
  pen.fillStyle = FAINT;
  pen.font = "10px system-ui, sans-serif";
  pen.textAlign = "right";
  for (const share of [0, 0.5, 1]) {
    const level = y(share * top);
    pen.beginPath();
    pen.moveTo(0, level);
    pen.lineTo(width, level);
    pen.stroke();
    if (share) pen.fillText(String(share * top), width - 3, level + (share === 1 ? 9 : 3));
  }
  pen.textAlign = "left";
}

/** Adds a point, and removes the points that are older than the chart. */
export function push(points, time, value) {
  points.push([time, value]);
  while (points[0][0] < time - SPAN) points.shift();
}
