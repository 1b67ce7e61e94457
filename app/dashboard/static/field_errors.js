// Errors of a form at their fields, and a summary that links to each.

/** Remove what `showErrors` has added. */
export function clearErrors(form, summary) {
  summary.hidden = true;
  for (const message of form.querySelectorAll(".field-error")) message.remove();
  for (const field of form.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-describedby");
  }
}

/** `problem`: of the API. `fieldAt`: the field that a JSON pointer into the request names, if there is one. */
export function showErrors(summary, problem, fieldAt) {
  const places = (problem.errors ?? []).map(({ pointer, detail }) => ({ detail, field: fieldAt(pointer) }));
  summary.replaceChildren(places.length && places.every(({ field }) => field) ? heading(places.length) : problem.detail);
  const list = document.createElement("ul");
  places.forEach(({ field, detail }, number) => list.append(field ? link(field, detail, number) : item(detail)));
  if (list.children.length) summary.append(list);
  summary.hidden = false;
}

const heading = (count) => (count === 1 ? "One field needs a change:" : `${count} fields need a change:`);

function item(...content) {
  const made = document.createElement("li");
  made.append(...content);
  return made;
}

/** Mark the field and return an entry of the summary that leads to it. */
function link(field, detail, number) {
  field.id ||= `field-${number}`;
  const message = document.createElement("p");
  message.className = "error small field-error";
  message.id = `error-${number}`;
  message.textContent = detail;
  (field.closest("label.setting") ?? field.closest(".field, li") ?? field).append(message);
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", message.id);
  for (let details = field.closest("details"); details; details = details.parentElement.closest("details")) details.open = true;
  const anchor = document.createElement("a");
  anchor.href = `#${field.id}`;
  anchor.textContent = nameOf(field);
  anchor.addEventListener("click", (event) => {
    event.preventDefault();
    field.focus();
  });
  return item(anchor, `: ${detail}`);
}

/** The label of the field without its hints. */
function nameOf(field) {
  const label = (field.closest("label") ?? document.querySelector(`label[for="${field.id}"]`)).cloneNode(true);
  for (const hint of label.querySelectorAll("small, .field-error")) hint.remove();
  const attack = field.closest("[data-for]");
  return (attack ? `${attack.dataset.for}, ` : "") + label.textContent.trim();
}
