// The buttons, switches and files. Everything that changes the loop is a POST of JSON, answered with 204 or a reason.
const byId = (id) => document.getElementById(id);
const UNITS = ["bytes", "kB", "MB", "GB"];
const FINE = 2;  // seconds: the slider's end, unless the loop began with a longer half-life
let refused = () => {}, changed = async () => {};

async function post(address, body) {
  const headers = { "Content-Type": "application/json" };
  try {
    const response = await fetch(address, { method: "POST", headers, body: JSON.stringify(body) });
    refused(response.ok ? "" : (await response.text()).trim());
  } catch {
    refused("the loop cannot be reached");
  }
  await changed();
}

/** Connects the controls. `onRefusal` gets a reason or "", and `onChange` reads the state again. */
export function start(onRefusal, onChange) {
  [refused, changed] = [onRefusal, onChange];
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("record").addEventListener("click", ({ target }) => post("recording", { on: target.dataset.on !== "true" }));
  byId("source").addEventListener("change", ({ target }) => { target.blur(); post("source", { name: target.value }); });
  byId("blur").addEventListener("change", ({ target }) => post("blur", { on: target.checked }));
  byId("overlay").addEventListener("change", ({ target }) => post("overlay", { on: target.checked }));
  byId("half-life").addEventListener("input", showHalfLife);
  byId("half-life").addEventListener("change", ({ target }) => post("half_life", { seconds: Number(target.value) }));
}

/** Shows the state of the controls: see `Routes.state`. Null: the page only shows the loop. */
export function show(controls) {
  for (const id of ["record", "view"]) byId(id).hidden = !controls;
  byId("choice").hidden = !controls || controls.sources.length < 2;
  byId("files").hidden = !controls?.files.length;
  if (!controls) return;
  byId("record").dataset.on = String(controls.recording);
  write(byId("record"), controls.recording ? "Stop recording" : "Record");
  byId("blur").checked = controls.blur;
  byId("blur").disabled = controls.blur_fixed;
  byId("overlay").checked = controls.overlay;
  const slider = byId("half-life");
  if (document.activeElement !== slider || Number(slider.value) === controls.half_life) {
    slider.max = Math.max(FINE, controls.half_life);
    slider.value = controls.half_life;
    showHalfLife();
  }
  showSources(controls);
  showFiles(controls.files);
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function showHalfLife() {
  const seconds = Number(byId("half-life").value), text = seconds ? `${seconds.toFixed(2)} s` : "off";
  write(byId("half-life-value"), text);
  byId("half-life").setAttribute("aria-valuetext", seconds ? `half-life ${seconds.toFixed(2)} seconds` : "off");
}

function showSources({ sources, source }) {
  const list = byId("source");
  if (list.dataset.names !== sources.join("\n")) {
    list.dataset.names = sources.join("\n");
    list.replaceChildren(...sources.map((name) => new Option(name, name)));
  }
  if (document.activeElement !== list) list.value = source;
}

/** Updates the list in place: the keyboard's focus stays where it is. */
function showFiles(files) {
  const list = byId("file-list");
  while (list.children.length > files.length) list.lastElementChild.remove();
  files.forEach(({ number, name, kind, bytes, offered }, place) => {
    const item = list.children[place] ?? list.appendChild(document.createElement("li"));
    const key = `${number} ${name} ${offered}`;
    if (item.dataset.key !== key) {
      item.dataset.key = key;
      const link = document.createElement(offered ? "a" : "b");
      link.textContent = name;
      if (offered) Object.assign(link, { href: `files/${number}`, download: name });
      item.replaceChildren(link, document.createElement("span"));
    }
    write(item.lastElementChild, `${kind}, ${size(bytes)}${offered ? "" : ", too large to download; copy it from the machine"}`);
  });
}

function size(bytes) {
  const power = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(bytes, 1)) / 3));
  return `${(bytes / 1000 ** power).toFixed(power ? 1 : 0)} ${UNITS[power]}`;
}
