// Keyboard shortcuts of every page. They can be switched off, because speech input may type single letters.
const STORE = "unveil-shortcuts";
const SEQUENCE_MS = 1000;
const PAGES = { e: "/", p: "/dashboard/playground", k: "/dashboard/keys", d: "/dashboard/datasets" };

const dialog = document.getElementById("shortcuts");
const enabled = document.getElementById("shortcuts-on");
let afterG = 0; // time until which a letter completes a sequence that `g` began

enabled.checked = localStorage.getItem(STORE) !== "off";
enabled.addEventListener("change", () => localStorage.setItem(STORE, enabled.checked ? "on" : "off"));
document.getElementById("shortcuts-open").addEventListener("click", () => dialog.showModal());
document.getElementById("shortcuts-close").addEventListener("click", () => dialog.close());

/** Move through the evaluations of the list or the cells of the table; on the page of a cell, to the next one. */
function move(step) {
  const neighbour = document.querySelector(`a[rel=${step > 0 ? "next" : "prev"}]`);
  if (neighbour) return neighbour.click();
  const items = [...document.querySelectorAll(".list .name, .heat td a")];
  const at = items.indexOf(document.activeElement);
  const wanted = at < 0 ? (step > 0 ? 0 : items.length - 1) : at + step;
  items[wanted]?.focus();
}

function search() {
  const field = document.getElementById("search");
  if (field) field.select();
  else location.assign("/#search");
}

const ACTIONS = {
  "/": search,
  n: () => location.assign("/dashboard/evaluations/new"),
  j: () => move(1),
  k: () => move(-1),
  g: () => (afterG = performance.now() + SEQUENCE_MS),
  "?": () => dialog.showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || !enabled.checked) return;
  if (event.target.closest("input:not([type=checkbox], [type=radio]), textarea, select, dialog, [contenteditable]")) return;
  const page = performance.now() < afterG && PAGES[event.key];
  afterG = 0;
  const action = page ? () => location.assign(page) : ACTIONS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

if (location.hash === "#search") document.getElementById("search")?.focus();
