// Reads a photo that is dropped on the page or chosen. It is sent to the loop's machine, which answers and keeps nothing.
const byId = (id) => document.getElementById(id);
const LARGEST = 1280;  // pixels of the longer side of the picture that is shown
const percent = (share) => `${Math.round(100 * share)} %`;
let latest = 0;

/** Connects the choice of a file, and the whole page as the place to drop one. */
export function start() {
  byId("photo-file").addEventListener("change", ({ target }) => target.files[0] && read(target.files[0]));
  byId("photo-clear").addEventListener("click", clear);
  const carriesFile = (event) => !byId("photo").hidden && event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    byId("drop-here").hidden = false;
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) byId("drop-here").hidden = true; });
  document.addEventListener("drop", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    byId("drop-here").hidden = true;
    read(event.dataTransfer.files[0]);
  });
}

/** Shows whether photos are read here. */
export function show(offered) {
  byId("photo").hidden = !offered;
}

function clear() {
  latest += 1;
  byId("photo-file").value = "";
  byId("photo-status").textContent = "";
  byId("photo-faces").replaceChildren();
  byId("photo-picture").width = byId("photo-picture").height = 0;
  byId("photo-picture").hidden = byId("photo-clear").hidden = true;
  byId("photo-file").focus();
}

async function read(file) {
  const turn = ++latest, say = (text) => { if (turn === latest) byId("photo-status").textContent = text; };
  say(`Reading ${file.name} ...`);
  byId("photo-faces").replaceChildren();
  byId("photo-picture").hidden = true;
  byId("photo-clear").hidden = false;
  byId("photo").scrollIntoView({ block: "nearest" });
  try {
    const headers = { "Content-Type": file.type.startsWith("image/") ? file.type : "application/octet-stream" };
    const response = await fetch("photo", { method: "POST", headers, body: file });
    if (!response.ok) return say(`Not read: ${(await response.text()).trim()}`);
    const record = await response.json();
    const picture = await createImageBitmap(file);
    if (turn === latest) answer(record, picture, file.name);
  } catch (error) {
    say(`Not read: ${error.message}`);
  }
}

function answer({ faces, width, height }, picture, name) {
  const canvas = byId("photo-picture"), scale = Math.min(1, LARGEST / Math.max(picture.width, picture.height));
  canvas.width = Math.round(picture.width * scale);
  canvas.height = Math.round(picture.height * scale);
  const pen = canvas.getContext("2d");
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  picture.close();
  faces.forEach(({ box: [x, y, w, h] }, index) => {
    const [across, down] = [canvas.width / width, canvas.height / height];
    frame(pen, x * across, y * down, w * across, h * down, String(index + 1));
  });
  canvas.hidden = false;
  const count = `${faces.length} ${faces.length === 1 ? "face" : "faces"}`;
  byId("photo-status").textContent = faces.length ? `${count} in ${name}, numbered as in the picture:` : `No face was found in ${name}.`;
  byId("photo-faces").replaceChildren(...faces.map(item));
}

/** A box with its number, dark on light, so that it is seen on any picture. */
function frame(pen, x, y, width, height, text) {
  const size = Math.max(14, pen.canvas.width / 40);
  for (const [colour, wide] of [["#000", 5], ["#fff", 2]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = wide;
    pen.strokeRect(x, y, width, height);
  }
  pen.font = `bold ${size}px system-ui, sans-serif`;
  const top = y > size * 1.3 ? y - size * 1.3 : y;
  pen.fillStyle = "#fff";
  pen.fillRect(x, top, pen.measureText(text).width + size * 0.6, size * 1.3);
  pen.fillStyle = "#000";
  pen.fillText(text, x + size * 0.3, top + size);
}

function item({ expression, probability, uncertain, disagreement }, index) {
  const entry = document.createElement("li");
  const doubt = disagreement === undefined ? "" : `, disagreement ${disagreement.toFixed(4)}`;
  entry.textContent = `${index + 1}. ${uncertain ? `uncertain (${expression})` : expression} ${percent(probability)}${doubt}`;
  return entry;
}
