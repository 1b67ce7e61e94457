// Buttons that copy a text: of the element that `data-copy` names, or the value of `data-copy-text`.
const SHOWN_MS = 2000;

// Browsers offer the clipboard on https and on localhost only; without it the buttons stay hidden.
if (navigator.clipboard) document.documentElement.classList.add("can-copy");

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy], [data-copy-text]");
  if (!button) return;
  const text = button.dataset.copyText ?? document.getElementById(button.dataset.copy).textContent;
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not copied";
  }
  setTimeout(() => (button.textContent = label), SHOWN_MS);
});
