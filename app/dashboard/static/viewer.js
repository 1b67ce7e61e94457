// The page of one image: original, protected and reconstructed image under a common zoom and position. The view, the zoom
// and the position stay the same from image to image.
import { differenceMap, mean, ssimMap } from "./maps.js";

const STORE = "unveil-viewer";
const MAX_ZOOM = 16;
const PAN_STEP = 0.1; // of a pane, by an arrow key

const viewer = document.getElementById("viewer");
const panes = document.getElementById("panes");
const split = document.getElementById("split");
const figures = Object.fromEntries([...(panes?.children ?? [])].map((figure) => [figure.dataset.kind, figure]));
const kept = JSON.parse(sessionStorage.getItem(STORE) ?? "{}");
const state = { view: "side", zoom: 1, x: 0, y: 0, ...kept }; // x, y: offset of the image's centre, as a fraction of the pane

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

const imageOf = (name) => figures[name].querySelector("img");
const captionOf = (name) => figures[name].querySelector("figcaption").textContent;

function copyOf(name) {
  const copy = imageOf(name).cloneNode();
  copy.draggable = false;
  return copy;
}

/** Two images over each other, with a boundary that the slider moves. */
function slider() {
  const [left, right] = ["left", "right"].map((side) => document.getElementById(side).value);
  const cut = document.createElement("div");
  cut.className = "cut";
  cut.append(copyOf(right));
  return [pane(`${captionOf(left)} and ${captionOf(right)}`, copyOf(left), cut)];
}

/** Original, reconstruction, and a map of both in grey. */
function compared(caption, paint) {
  const canvas = document.createElement("canvas");
  canvas.className = "pixels";
  const figure = pane(caption, canvas);
  readPixels(["plain", "reconstructed"]).then(({ pixels, width, height }) => {
    Object.assign(canvas, { width, height });
    paint({ pixels, width, height, canvas, text: figure.querySelector("figcaption") });
    canvas.dataset.painted = "";
  });
  return [figures.plain, figures.reconstructed, figure];
}

async function readPixels(names) {
  const images = names.map(imageOf);
  await Promise.all(images.map((image) => image.decode()));
  const { naturalWidth: width, naturalHeight: height } = images[0];
  const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d", { willReadFrequently: true });
  const pixels = images.map((image) => {
    context.drawImage(image, 0, 0, width, height);
    return context.getImageData(0, 0, width, height).data;
  });
  return { pixels, width, height };
}

/** Draw values in 0..1 in grey, `margin` pixels from the border, which stays empty. */
function draw(canvas, values, width, height, margin) {
  const image = new ImageData(width, height);
  values.forEach((value, i) => {
    image.data.fill(Math.round(255 * Math.max(0, Math.min(1, value))), 4 * i, 4 * i + 3);
    image.data[4 * i + 3] = 255;
  });
  canvas.getContext("2d").putImageData(image, margin, margin);
}

const difference = () =>
  compared("difference: black is equal, white differs by 255", ({ pixels, width, height, canvas }) => {
    draw(canvas, differenceMap(...pixels).map((value) => value / 255), width, height, 0);
  });

const ssim = () =>
  compared("SSIM map", ({ pixels, width, height, canvas, text }) => {
    const map = ssimMap(...pixels, width, height, viewer.dataset.mode);
    draw(canvas, map.values, map.width, map.height, map.margin);
    canvas.dataset.mean = mean(map.values);
    text.textContent = `SSIM map, ${viewer.dataset.mode}: white is equal, black is 0 or less; its mean is ${mean(map.values).toFixed(3)}`;
  });

const VIEWS = { side: () => Object.values(figures), slider, difference, ssim };

function show(view) {
  state.view = viewer.querySelector(`[data-view=${view}]`) ? view : "side"; // this image may lack its original
  for (const button of viewer.querySelectorAll("[data-view]")) button.setAttribute("aria-pressed", String(button.dataset.view === state.view));
  panes.replaceChildren(...VIEWS[state.view]());
  if (split) split.hidden = state.view !== "slider";
  apply();
}

// --- zoom and position, the same in all panes ---

function apply() {
  const most = (state.zoom - 1) / 2; // a larger offset would show the area outside the image
  state.x = Math.max(-most, Math.min(most, state.x));
  state.y = Math.max(-most, Math.min(most, state.y));
  panes.style.setProperty("--zoom", state.zoom);
  panes.style.setProperty("--x", `${100 * state.x}%`);
  panes.style.setProperty("--y", `${100 * state.y}%`);
  panes.classList.toggle("zoomed", state.zoom > 1);
  document.getElementById("zoom-level").textContent = `${Number(state.zoom.toFixed(1))}×`;
  sessionStorage.setItem(STORE, JSON.stringify(state));
}

/** Zoom about a point, given as an offset from the centre of the pane, as a fraction of the pane. */
function zoomTo(zoom, x = 0, y = 0) {
  const next = Math.max(1, Math.min(MAX_ZOOM, zoom));
  const ratio = next / state.zoom;
  Object.assign(state, { zoom: next, x: x + (state.x - x) * ratio, y: y + (state.y - y) * ratio });
  apply();
}

function moveBy(x, y) {
  state.x += x;
  state.y += y;
  apply();
}

function onWheel(event) {
  const frame = event.target.closest(".pane");
  if (!frame || !(event.ctrlKey || event.metaKey)) return; // the wheel alone scrolls the page
  event.preventDefault();
  const box = frame.getBoundingClientRect();
  const at = [(event.clientX - box.left) / box.width - 0.5, (event.clientY - box.top) / box.height - 0.5];
  zoomTo(state.zoom * (event.deltaY < 0 ? 1.25 : 0.8), ...at);
}

function onPointerDown(event) {
  const frame = event.target.closest(".pane");
  if (!frame) return;
  frame.setPointerCapture(event.pointerId);
  const { width, height } = frame.getBoundingClientRect();
  frame.onpointermove = (moved) => moveBy(moved.movementX / width, moved.movementY / height);
  frame.onpointerup = frame.onpointercancel = () => (frame.onpointermove = null);
}

const ZOOM_KEYS = { "+": () => zoomTo(state.zoom * 2), "-": () => zoomTo(state.zoom / 2), 0: () => zoomTo(1) };
const PAN_KEYS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/** Single characters act in the panes alone, because speech input may type them. */
function onPaneKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const [x, y] = (state.zoom > 1 && PAN_KEYS[event.key]) || [];
  const act = x === undefined ? ZOOM_KEYS[event.key] : () => moveBy(PAN_STEP * x, PAN_STEP * y);
  if (!act) return;
  event.preventDefault();
  event.stopPropagation();
  act();
}

if (viewer) {
  const on = (id, act) => document.getElementById(id).addEventListener("click", act);
  on("zoom-in", ZOOM_KEYS["+"]);
  on("zoom-out", ZOOM_KEYS["-"]);
  on("zoom-fit", ZOOM_KEYS[0]);
  for (const button of viewer.querySelectorAll("[data-view]")) button.addEventListener("click", () => show(button.dataset.view));
  split?.querySelector("input").addEventListener("input", ({ target }) => panes.style.setProperty("--split", `${target.value}%`));
  split?.addEventListener("change", ({ target }) => target.matches("select") && show("slider"));
  panes.addEventListener("wheel", onWheel, { passive: false });
  panes.addEventListener("pointerdown", onPointerDown);
  panes.addEventListener("keydown", onPaneKey);
  for (const image of panes.querySelectorAll("img")) image.draggable = false;
  for (const tools of viewer.querySelectorAll(".tools")) tools.hidden = false;
  show(state.view);
}

document.addEventListener("keydown", (event) => {
  const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  if (!rel || event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select, textarea, dialog")) return;
  document.querySelector(`a[rel=${rel}]`)?.click();
});
