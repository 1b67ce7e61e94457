// The form of a new evaluation: the same JSON goes to the preview, which plans it, and to POST /evaluations.
import { clearErrors, showErrors } from "./field_errors.js";
import { keepFocus } from "./parts.js";
import { uploads } from "./upload.js";

const form = document.getElementById("evaluation-form");
const preview = document.getElementById("preview");
const refused = document.getElementById("refused");
const total = document.getElementById("total");
const start = document.getElementById("start");
const PREVIEW_DELAY_MS = 150;

const json = (path, body) =>
  fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

const checked = (name) => [...form.querySelectorAll(`input[name=${name}]:checked`)];
const settingsOf = (attack) => [...form.querySelectorAll(`[data-for="${attack}"] [name]`)];

/** The request that the fields describe; empty fields are left out. */
function requestBody() {
  const value = (name) => form.elements[name].value;
  const made = {
    name: value("name"),
    schemes: checked("scheme").map((box) => ({ ...JSON.parse(box.value), ...(box.dataset.key ? { key_id: box.dataset.key } : {}) })),
    attacks: checked("attack").map((box) => ({ name: box.value, ...settings(box.value) })),
    dataset: value("dataset"),
    profile: value("profile"),
    ssim_mode: value("ssim_mode"),
  };
  for (const name of ["seed", "samples", "keys"]) if (value(name)) made[name] = Number(value(name));
  if (value("public_dataset")) made.public_dataset = value("public_dataset");
  if (form.elements.utility.checked) made.utility = true;
  return made;
}

/** The settings of an attack that differ from those of the profile. */
function settings(attack) {
  const profile = form.elements.profile.value;
  const given = {};
  for (const field of settingsOf(attack)) {
    if (field.type === "checkbox") {
      if (field.checked !== JSON.parse(field.dataset.defaults)[profile]) given[field.name] = field.checked;
    } else if (field.value) given[field.name] = typed(field.value);
  }
  return given;
}

function typed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** The field that a JSON pointer into the request names. */
function fieldAt(pointer) {
  const [list, index, setting] = pointer.split("/").slice(1);
  if (list !== "schemes" && list !== "attacks") {
    const field = form.elements[list];
    return field instanceof RadioNodeList ? field[0] : field;
  }
  const box = checked(list.slice(0, -1))[Number(index ?? NaN)];
  if (!box) return document.getElementById(list).querySelector("input");
  const field = list === "attacks" && settingsOf(box.value).find((each) => each.name === setting);
  return field || box;
}

// --- presets and profiles ---

function applyPreset(preset) {
  if (preset === "custom") return;
  for (const box of form.querySelectorAll("[data-presets]")) box.checked = box.dataset.presets.split(" ").includes(preset);
}

/** Settings that the user has not changed follow the profile. */
function applyProfile(profile) {
  for (const field of form.querySelectorAll("[data-defaults]")) {
    const value = JSON.parse(field.dataset.defaults)[profile];
    if (field.type !== "checkbox") field.placeholder = JSON.stringify(value);
    else if (!field.dataset.changed) field.checked = value;
  }
}

form.addEventListener("change", ({ target }) => {
  if (target.name === "preset") applyPreset(target.value);
  else if (target.name === "profile") applyProfile(target.value);
  else if (target.dataset.defaults) target.dataset.changed = "yes";
  else if (target.name === "scheme" || target.name === "attack") form.elements.preset.value = "custom";
  else if (target.tagName !== "SELECT") return; // some browsers report a choice from a list by this event alone
  schedulePreview();
});

// --- the preview and the request ---

let latest = 0;
let timer;

function schedulePreview() {
  clearTimeout(timer);
  timer = setTimeout(showPreview, PREVIEW_DELAY_MS);
}

async function showPreview() {
  const mine = ++latest;
  const wanted = requestBody();
  clearErrors(form, refused);
  start.disabled = !wanted.schemes.length || !wanted.attacks.length;
  total.textContent = "";
  if (start.disabled) return (preview.textContent = "Choose at least one scheme and one attack.");
  const answer = await json("/dashboard/evaluations/preview", wanted);
  const text = await answer.text();
  if (mine !== latest) return;
  if (!answer.ok) {
    preview.textContent = "This request is not valid.";
    return showErrors(refused, JSON.parse(text), fieldAt);
  }
  const open = new Set([...preview.querySelectorAll("details[open] > summary")].map((each) => each.textContent));
  keepFocus(preview, () => {
    preview.innerHTML = text;
    for (const summary of preview.querySelectorAll("summary")) summary.parentElement.open ||= open.has(summary.textContent);
  });
  total.textContent = document.getElementById("cells").textContent;
}

form.addEventListener("input", schedulePreview);

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  start.disabled = true;
  clearErrors(form, refused);
  const answer = await json("/evaluations", requestBody());
  const body = await answer.json();
  if (answer.ok) return location.assign(`/dashboard/evaluations/${body.id}`);
  showErrors(refused, body, fieldAt);
  start.disabled = false;
});

uploads({
  drop: document.getElementById("drop"),
  input: document.getElementById("archive"),
  bar: document.getElementById("sent"),
  status: document.getElementById("uploaded"),
  done(dataset) {
    form.elements.dataset.add(new Option(dataset.name, dataset.id, false, true));
    showPreview();
  },
});

showPreview();
