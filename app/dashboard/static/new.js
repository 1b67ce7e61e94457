// The form of a new evaluation: the same JSON goes to the preview, which plans it, and to POST /evaluations.
import { keepFocus } from "./parts.js";
import { uploads } from "./upload.js";

const form = document.getElementById("order");
const preview = document.getElementById("preview");
const refused = document.getElementById("refused");
const start = document.getElementById("start");

const json = (path, body) =>
  fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

/** What the fields say; a setting that is left empty is the profile's. */
function order() {
  const value = (name) => form.elements[name].value;
  const checked = (name) => [...form.querySelectorAll(`input[name=${name}]:checked`)];
  const made = {
    name: value("name"),
    schemes: checked("scheme").map((box) => ({ ...JSON.parse(box.value), ...(box.dataset.key ? { key_id: box.dataset.key } : {}) })),
    attacks: checked("attack").map((box) => ({ name: box.value, ...settings(box.value) })),
    dataset: value("dataset"),
    profile: value("profile"),
    ssim_mode: value("ssim_mode"),
  };
  for (const name of ["seed", "samples", "keys"]) made[name] = Number(value(name));
  if (value("public_dataset")) made.public_dataset = value("public_dataset");
  return made;
}

function settings(attack) {
  const fields = form.querySelectorAll(`[data-for="${attack}"] input, [data-for="${attack}"] select`);
  return Object.fromEntries([...fields].filter((field) => field.value).map((field) => [field.name, typed(field.value)]));
}

function typed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

let turn = 0;
let timer;

async function look() {
  const mine = ++turn;
  const wanted = order();
  refused.hidden = true;
  start.disabled = !wanted.schemes.length || !wanted.attacks.length;
  if (start.disabled) return (preview.textContent = "Choose at least one scheme and one attack.");
  const answer = await json("/dashboard/evaluations/preview", wanted);
  const text = await answer.text();
  if (mine !== turn) return;
  if (!answer.ok) return (preview.textContent = JSON.parse(text).detail);
  const open = [...preview.querySelectorAll("details")].map((each) => each.open);
  keepFocus(preview, () => {
    preview.innerHTML = text;
    preview.querySelectorAll("details").forEach((each, i) => (each.open = open[i] ?? false));
  });
}

form.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(look, 150);
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  start.disabled = true;
  const answer = await json("/evaluations", order());
  const body = await answer.json();
  if (answer.ok) return location.assign(`/dashboard/evaluations/${body.id}`);
  refused.textContent = [body.detail, ...body.errors.map((error) => `${error.pointer} ${error.detail}`)].join("; ");
  refused.hidden = false;
  start.disabled = false;
});

uploads({
  drop: document.getElementById("drop"),
  input: document.getElementById("archive"),
  bar: document.getElementById("sent"),
  said: document.getElementById("uploaded"),
  done(dataset) {
    form.elements.dataset.add(new Option(dataset.name, dataset.id, false, true));
    look();
  },
});

look();
