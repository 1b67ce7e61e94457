// The image viewer of a cell: original, protected and reconstructed image under a common zoom and position.
const dialog = document.getElementById("viewer");
const entries = [...document.querySelectorAll("[data-viewer]")];
const panes = document.getElementById("panes");
const split = document.getElementById("split");
const link = document.getElementById("viewer-link");
const MAX_ZOOM = 16;

let shown = 0;
let view = "side";
const viewport = { zoom: 1, x: 0, y: 0 }; // x, y: offset of the image's centre from the pane's, as a fraction of the pane

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

/** The images of an entry: the original if it is stored, the protected and the reconstructed image. */
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
  return [...sideBySide([original, reconstructed]), pane("difference: black is equal, white differs by 255", canvas)];
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
  const most = (viewport.zoom - 1) / 2; // a larger offset would show the area outside the image
  viewport.x = Math.max(-most, Math.min(most, viewport.x));
  viewport.y = Math.max(-most, Math.min(most, viewport.y));
  panes.style.setProperty("--zoom", viewport.zoom);
  panes.style.setProperty("--x", `${100 * viewport.x}%`);
  panes.style.setProperty("--y", `${100 * viewport.y}%`);
  panes.classList.toggle("zoomed", viewport.zoom > 1);
  document.getElementById("zoom-level").textContent = `${Number(viewport.zoom.toFixed(1))}×`;
}

/** Zoom about a point, given as an offset from the centre of the pane, as a fraction of the pane. */
function zoomTo(zoom, x = 0, y = 0) {
  const next = Math.max(1, Math.min(MAX_ZOOM, zoom));
  const ratio = next / viewport.zoom;
  Object.assign(viewport, { zoom: next, x: x + (viewport.x - x) * ratio, y: y + (viewport.y - y) * ratio });
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
    zoomTo(viewport.zoom * (event.deltaY < 0 ? 1.25 : 0.8), ...at);
  },
  { passive: false },
);

panes.addEventListener("pointerdown", (event) => {
  const frame = event.target.closest(".pane");
  if (!frame) return;
  frame.setPointerCapture(event.pointerId);
  const { width, height } = frame.getBoundingClientRect();
  frame.onpointermove = (moved) => {
    viewport.x += moved.movementX / width;
    viewport.y += moved.movementY / height;
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
  "+": () => zoomTo(viewport.zoom * 2),
  "-": () => zoomTo(viewport.zoom / 2),
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
  // Opens after the browser has scrolled to the fragment, which would take the focus out of the dialog.
  if (linked >= 0) addEventListener("load", () => setTimeout(() => open(linked)));
}
