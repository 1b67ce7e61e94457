// Sorts a board by a column and filters its rows. Without this script the board is complete, the worst scheme first.
"use strict";

for (const table of document.querySelectorAll("table[data-board]")) makeSortable(table);
const form = document.getElementById("board-filter");
if (form) {
  form.hidden = false;
  form.addEventListener("input", filterRows);
  form.addEventListener("change", filterRows); // some browsers send no input event for a choice
  form.addEventListener("submit", (event) => event.preventDefault());
  filterRows(); // a browser keeps what was typed before a reload
}

function makeSortable(table) {
  for (const heading of table.tHead.querySelectorAll("th[data-sort]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => sortRows(table, heading));
  }
}

function sortRows(table, heading) {
  const descending = heading.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => ({ row, value: row.cells[heading.cellIndex].dataset.value }));
  rows.sort((a, b) => {
    if (a.value === undefined || b.value === undefined) return (a.value === undefined) - (b.value === undefined); // last
    return (descending ? -1 : 1) * compare(a.value, b.value);
  });
  body.append(...rows.map(({ row }) => row));
}

function compare(a, b) {
  return isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
}

function filterRows() {
  const { text, verdict, paper } = form.elements;
  const rows = [...document.querySelectorAll("table[data-board] tbody tr")];
  for (const row of rows) {
    const isPaper = row.dataset.verdict === "paper";
    const isFound = row.textContent.toLowerCase().includes(text.value.trim().toLowerCase());
    row.hidden = !isFound || (isPaper ? !paper.checked : verdict.value !== "" && row.dataset.verdict !== verdict.value);
  }
  form.querySelector("output").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
}
