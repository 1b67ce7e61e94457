// The evidence viewer of a cell: original, protected and reconstructed image with one zoom and position for all.
const dialog = document.getElementById("viewer");
const entries = [...document.querySelectorAll("[data-viewer]")];
const panes = document.getElementById("panes");
const split = document.getElementById("split");
const link = document.getElementById("viewer-link");
const MAX_ZOOM = 16;

let shown = 0;
let view = "side";
const place = { zoom: 1, x: 0, y: 0 }; // x, y: of the image's centre from the pane's, in parts of the pane

// --- panes ---

function pane(caption, ...content) {
  const figure = document.createElement("figure");
  const frame = document.createElement("div");
  frame.className = "pane";
  frame.append(...content);
  const text = document.createElement("figcaption");
  text.textContent = caption;
  figure.append(frame, text);
  return figure;
}

function copyOf({ image }) {
  const copy = image.cloneNode();
  copy.loading = "eager";
  copy.draggable = false;
  return copy;
}

/** The images of an entry: the original if it is known, the protected and the reconstructed one. */
const imagesOf = (entry) =>
  [...entry.querySelectorAll("img")].map((image) => ({ image, caption: image.nextElementSibling.textContent }));

function sideBySide(images) {
  return images.map((each) => pane(each.caption, copyOf(each)));
}

/** The first and the last image over each other, with a boundary that the slider moves. */
function slider(images) {
  const [left, right] = [images[0], images.at(-1)];
  const cut = document.createElement("div");
  cut.className = "cut";
  cut.append(copyOf(right));
  document.getElementById("split-left").textContent = left.caption;
  document.getElementById("split-right").textContent = right.caption;
  return [pane(`${left.caption} and ${right.caption}`, copyOf(left), cut)];
}

/** The absolute difference of the original and the reconstruction: the largest of the three channels. */
function difference(images) {
  const [original, reconstructed] = [images[0], images.at(-1)];
  const canvas = document.createElement("canvas");
  canvas.className = "pixels";
  const paint = async () => {
    const loaded = [original, reconstructed].map(copyOf); // the images of the list load lazily
    await Promise.all(loaded.map((image) => image.decode()));
    const { naturalWidth: width, naturalHeight: height } = loaded[0];
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const [a, b] = loaded.map((image) => {
      context.drawImage(image, 0, 0, width, height);
      return context.getImageData(0, 0, width, height);
    });
    for (let i = 0; i < a.data.length; i += 4) {
      const largest = Math.max(...[0, 1, 2].map((channel) => Math.abs(a.data[i + channel] - b.data[i + channel])));
      a.data.fill(largest, i, i + 3);
    }
    context.putImageData(a, 0, 0);
  };
  paint();
  return [...sideBySide([original, reconstructed]), pane("difference: black is equal, white 255 levels apart", canvas)];
}

const VIEWS = { side: sideBySide, slider, difference };

function show(index) {
  shown = (index + entries.length) % entries.length;
  const entry = entries[shown];
  document.getElementById("viewer-caption").textContent = entry.dataset.caption;
  link.href = entry.hash;
  history.replaceState(null, "", entry.hash); // the address of the page becomes that of the image
  panes.replaceChildren(...VIEWS[view](imagesOf(entry)));
  split.hidden = view !== "slider";
}

function setView(name) {
  view = name;
  for (const button of dialog.querySelectorAll("[data-view]")) button.setAttribute("aria-pressed", String(button.dataset.view === name));
  show(shown);
}

// --- zoom and position, the same in all panes ---

function apply() {
  const most = (place.zoom - 1) / 2; // beyond it the pane would show what lies beside the image
  place.x = Math.max(-most, Math.min(most, place.x));
  place.y = Math.max(-most, Math.min(most, place.y));
  panes.style.setProperty("--zoom", place.zoom);
  panes.style.setProperty("--x", `${100 * place.x}%`);
  panes.style.setProperty("--y", `${100 * place.y}%`);
  panes.classList.toggle("zoomed", place.zoom > 1);
  document.getElementById("zoom-level").textContent = `${Number(place.zoom.toFixed(1))}×`;
}

/** Zoom about a point, given from the centre of the pane in parts of it. */
function zoomTo(zoom, x = 0, y = 0) {
  const next = Math.max(1, Math.min(MAX_ZOOM, zoom));
  const ratio = next / place.zoom;
  Object.assign(place, { zoom: next, x: x + (place.x - x) * ratio, y: y + (place.y - y) * ratio });
  apply();
}

panes.addEventListener(
  "wheel",
  (event) => {
    const frame = event.target.closest(".pane");
    if (!frame) return;
    event.preventDefault();
    const box = frame.getBoundingClientRect();
    const at = [(event.clientX - box.left) / box.width - 0.5, (event.clientY - box.top) / box.height - 0.5];
    zoomTo(place.zoom * (event.deltaY < 0 ? 1.25 : 0.8), ...at);
  },
  { passive: false },
);

panes.addEventListener("pointerdown", (event) => {
  const frame = event.target.closest(".pane");
  if (!frame) return;
  frame.setPointerCapture(event.pointerId);
  const { width, height } = frame.getBoundingClientRect();
  frame.onpointermove = (moved) => {
    place.x += moved.movementX / width;
    place.y += moved.movementY / height;
    apply();
  };
  frame.onpointerup = frame.onpointercancel = () => (frame.onpointermove = null);
});

// --- controls ---

function open(index) {
  show(index);
  dialog.showModal();
}

entries.forEach((entry, index) =>
  entry.addEventListener("click", (event) => {
    event.preventDefault();
    open(index);
  }),
);

const KEYS = {
  ArrowLeft: () => show(shown - 1),
  ArrowRight: () => show(shown + 1),
  "+": () => zoomTo(place.zoom * 2),
  "-": () => zoomTo(place.zoom / 2),
  0: () => zoomTo(1),
};

if (dialog) {
  const on = (id, act) => document.getElementById(id).addEventListener("click", act);
  on("viewer-close", () => dialog.close());
  on("viewer-before", KEYS.ArrowLeft);
  on("viewer-after", KEYS.ArrowRight);
  on("zoom-in", KEYS["+"]);
  on("zoom-out", KEYS["-"]);
  on("zoom-fit", KEYS[0]);
  for (const button of dialog.querySelectorAll("[data-view]")) button.addEventListener("click", () => setView(button.dataset.view));
  split.addEventListener("input", ({ target }) => panes.style.setProperty("--split", `${target.value}%`));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.target.type === "range" || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  dialog.addEventListener("close", () => {
    history.replaceState(null, "", location.pathname + location.search);
    entries[shown].focus();
  });
  const linked = entries.findIndex((entry) => entry.hash === location.hash);
  // After the browser's own jump to the address, which would take the focus out of the dialog.
  if (linked >= 0) addEventListener("load", () => setTimeout(() => open(linked)));
}
