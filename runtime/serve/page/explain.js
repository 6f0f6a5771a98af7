// Explains terms: on hover, focus, click and tap. The texts are those of the page's About, so they exist once.
const byId = (id) => document.getElementById(id);
const HOVER_OFF = 150;  // ms in which the pointer may move from the term to its explanation
let current = null, leaving = 0;

/** Makes a button with `data-term` show the explanation of its term. */
export function explain(button) {
  button.setAttribute("aria-describedby", `term-${button.dataset.term}`);
  for (const event of ["mouseenter", "focus", "click"]) button.addEventListener(event, () => open(button));
  button.addEventListener("mouseleave", closeSoon);
  button.addEventListener("blur", close);
}

function open(button) {
  clearTimeout(leaving);
  const tip = byId("tip"), text = byId(`term-${button.dataset.term}`).textContent;
  current = button;
  if (tip.textContent !== text) tip.textContent = text;
  tip.hidden = false;
  put(tip, button);
}

/** Puts the explanation below its term, or above it where there is no room. */
function put(tip, button) {
  const place = button.getBoundingClientRect(), size = tip.getBoundingClientRect();
  const below = place.bottom + 6, above = place.top - size.height - 6;
  tip.style.top = `${below + size.height <= innerHeight || above < 0 ? below : above}px`;
  tip.style.left = `${Math.max(8, Math.min(place.left, innerWidth - size.width - 8))}px`;
}

function close() {
  clearTimeout(leaving);
  byId("tip").hidden = true;
  current = null;
}

function closeSoon() {
  clearTimeout(leaving);
  leaving = setTimeout(() => document.activeElement !== current && close(), HOVER_OFF);
}

/** Explains all terms of the page, and opens and closes its About. */
export function start() {
  document.querySelectorAll(".term").forEach(explain);
  byId("tip").addEventListener("mouseenter", () => clearTimeout(leaving));
  byId("tip").addEventListener("mouseleave", closeSoon);
  document.addEventListener("keydown", (event) => event.key === "Escape" && close());
  // To focus a term by the keyboard may scroll the page, and its explanation must stay.
  document.addEventListener("scroll", () => (current && document.activeElement === current ? put(byId("tip"), current) : close()), { passive: true });
  document.addEventListener("pointerdown", (event) => current && !current.contains(event.target) && !byId("tip").contains(event.target) && close());
  byId("about-open").addEventListener("click", () => byId("about").showModal());
}

/** Says what runs: the version, the model and its conditions. `about` is that of the server's state. */
export function describe(about) {
  if (!about || byId("about-program").textContent) return;
  byId("about-program").textContent = `IERN ${about.version}, model ${about.model} on ${about.provider}. Runs on this machine; nothing is sent elsewhere.`;
  if (about.threshold) document.querySelector(".threshold").textContent = `; a new name needs ${Math.round(100 * about.threshold)} %`;
  if (about.strata.length > 1) document.querySelector(".strata").textContent = ` (${about.strata.join(", ")})`;
}
