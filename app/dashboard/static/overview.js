// The overview: choose two to four evaluations to compare; rows of running ones stay fresh.
import { refresh } from "./parts.js";

const EVERY_MS = 5000;
const button = document.getElementById("compare-chosen");

function count() {
  const chosen = document.querySelectorAll("input[name=ids]:checked").length;
  button.disabled = chosen < 2 || chosen > 4;
  button.title = button.disabled ? "Choose two to four evaluations" : "";
}

if (button) {
  document.addEventListener("change", count);
  count();
  setInterval(() => {
    if (!document.hidden && document.querySelector("[data-active]")) refresh(location.href);
  }, EVERY_MS);
}
