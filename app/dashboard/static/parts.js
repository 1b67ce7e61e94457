// A page that is open takes what has changed from a fresh rendering of itself: elements marked `data-part`, by id.

/** Replace what differs; what holds the focus keeps it. */
export function swap(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  for (const part of fresh.querySelectorAll("[data-part]")) {
    const old = document.getElementById(part.id);
    if (!old || old.outerHTML === part.outerHTML) continue;
    keepFocus(old, () => old.replaceWith(document.adoptNode(part)));
  }
}

/** Replace what is in `element`; if the focus was there, the new element of the same id has it. */
export function keepFocus(element, replace) {
  const focused = element.contains(document.activeElement) ? document.activeElement.id : "";
  replace();
  if (focused) document.getElementById(focused)?.focus();
}

/** Ask for a page and swap it in. Resolves to whether that worked. */
export async function refresh(address) {
  try {
    const answer = await fetch(address, { redirect: "error" });
    if (answer.ok) swap(await answer.text());
    return answer.ok;
  } catch {
    return false;
  }
}
