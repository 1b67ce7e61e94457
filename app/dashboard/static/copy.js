// Buttons that copy a text: of the element that `data-copy` names, the value of `data-copy-text`, or the whole address
// of the link that `data-copy-link` names.
const SHOWN_MS = 2000;

// Browsers offer the clipboard on https and on localhost only; without it the buttons stay hidden.
if (navigator.clipboard) document.documentElement.classList.add("can-copy");

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy], [data-copy-text], [data-copy-link]");
  if (!button) return;
  const { copy, copyText, copyLink } = button.dataset;
  const text = copyText ?? (copyLink ? document.getElementById(copyLink).href : document.getElementById(copy).textContent);
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not copied";
  }
  setTimeout(() => (button.textContent = label), SHOWN_MS);
});
