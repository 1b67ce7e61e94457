// The playground: one image under every scheme by POST /encrypt, back by POST /decrypt, then the previews of attacks.

const cards = [...document.querySelectorAll(".shot[data-scheme]")];
const previewCells = [...document.querySelectorAll("[data-preview]")];
const statusLine = document.getElementById("status");
const side = 256;
const smallest = 16;
let generation = 0; // counts chosen images: results for an earlier image are dropped

const part = (element, name) => element.querySelector(`[data-is=${name}]`);

/** An image file as a PNG of at most `side` pixels a side, cropped to an aspect ratio of at most 2:1. */
async function fit(file) {
  const whole = await createImageBitmap(file);
  const [wide, high] = [Math.min(whole.width, 2 * whole.height), Math.min(whole.height, 2 * whole.width)];
  const scale = Math.min(1, side / Math.max(wide, high));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(smallest, Math.round(wide * scale));
  canvas.height = Math.max(smallest, Math.round(high * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff"; // transparency goes onto white, as in the API
  context.fillRect(0, 0, canvas.width, canvas.height);
  const [left, top] = [(whole.width - wide) / 2, (whole.height - high) / 2];
  context.drawImage(whole, left, top, wide, high, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  return { blob, width: canvas.width, height: canvas.height, pixels: context.getImageData(0, 0, canvas.width, canvas.height).data };
}

function form(blob, fields) {
  const made = new FormData();
  made.append("images", blob, "image.png");
  for (const [name, value] of Object.entries(fields)) made.append(name, value);
  return made;
}

/** POST a form. Throws the problem's detail. */
async function post(path, body, accept) {
  const answer = await fetch(path, { method: "POST", body, headers: { Accept: accept } });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({ detail: `the service responded ${answer.status}` }));
  throw Object.assign(new Error(problem.detail), { code: problem.code });
}

function put(image, blob) {
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(blob);
}

// --- encrypt and decrypt ---

async function protect(card, input, mine) {
  const error = part(card, "error");
  error.hidden = true;
  card.classList.add("waits");
  // One key for all images, unless the scheme has a key for each.
  const known = card.dataset.key && !("perImage" in card.dataset);
  const fields = known ? { key_id: card.dataset.key } : { scheme: card.dataset.scheme, params: card.dataset.params };
  try {
    const answer = await post("/encrypt", form(input.blob, fields), "image/png");
    const blob = await answer.blob();
    if (mine !== generation) return false;
    card.dataset.key = answer.headers.get("Key-Id");
    show(card, blob, input);
    return true;
  } catch (failure) {
    error.textContent = failure.message;
    error.hidden = false;
    return false;
  } finally {
    if (mine === generation) card.classList.remove("waits");
  }
}

function show(card, blob, input) {
  const image = card.querySelector("img");
  put(image, blob);
  const key = part(card, "key");
  key.textContent = card.dataset.key;
  key.href = `/dashboard/keys#${card.dataset.key}`;
  const download = part(card, "download");
  download.href = image.src;
  download.download = `${card.dataset.title.replace(/[^a-z0-9]+/gi, "-").replace(/-$/, "")}.png`;
  key.hidden = download.hidden = false;
  part(card, "decrypt-status").textContent = "";
  const decrypt = part(card, "decrypt");
  if (!decrypt) return;
  decrypt.hidden = false;
  decrypt.textContent = "Decrypt";
  let plain = null;
  decrypt.onclick = async () => {
    if (plain) {
      // the second click shows the protected image again
      plain = null;
      decrypt.textContent = "Decrypt";
      part(card, "decrypt-status").textContent = "";
      return put(image, blob);
    }
    try {
      const answer = await post("/decrypt", form(blob, { key_id: card.dataset.key }), "image/png");
      plain = await answer.blob();
      put(image, plain);
      decrypt.textContent = "Show protected";
      part(card, "decrypt-status").textContent = (await same(plain, input)) ? "Decrypted: identical to your image in every pixel." : "Decrypted: differs from your image.";
    } catch (failure) {
      part(card, "decrypt-status").textContent = failure.message;
    }
  };
}

async function same(blob, input) {
  const { width, height, pixels } = await fit(blob);
  return width === input.width && height === input.height && pixels.every((value, i) => value === input.pixels[i]);
}

// --- previews of attacks ---

async function preview(cell, input, mine) {
  const card = cards[cell.dataset.card];
  const figures = part(cell, "figures");
  if (!card.dataset.key) return figures.replaceChildren("not protected");
  figures.replaceChildren("running …");
  const body = () => form(input.blob, { key_id: card.dataset.key, attack: cell.dataset.preview });
  let result;
  while (!result) {
    try {
      result = await (await post("/dashboard/playground/preview", body(), "application/json")).json();
    } catch (failure) {
      if (mine !== generation) return;
      if (failure.code !== "playground_busy") return figures.replaceChildren(line(failure.message), again(cell, input, mine));
      await new Promise((done) => setTimeout(done, 300)); // another page of this account has a preview running
    }
  }
  if (mine !== generation) return;
  if (result.failed_attack) return figures.replaceChildren(`The attack found nothing: ${result.failed_attack}.`);
  const images = part(cell, "images");
  [...images.children].forEach((image, i) => put(image, png(result.images[i])));
  images.hidden = false;
  const strong = document.createElement("strong");
  strong.textContent = `SSIM ${result.ssim.toFixed(3)}`;
  const identified = `${result.identified ? "identified" : "not identified"}; ${result.identified_of_set} of ${result.set} images identified`;
  const key = result.exact_key === null ? [] : [line(result.exact_key ? "exact key found" : "key found in part")];
  figures.replaceChildren(strong, line(identified, result.above_chance ? "leaks" : ""), ...key, line(`${result.seconds.toFixed(2)} s`, "dim"));
  cell.classList.toggle("seen", result.ssim >= 0.9);
}

/** A button that runs the preview again. */
function again(cell, input, mine) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "small";
  button.textContent = "Try again";
  button.onclick = () => preview(cell, input, mine);
  return button;
}

function line(text, style = "") {
  const made = document.createElement("span");
  made.className = style;
  made.textContent = text;
  return made;
}

function png(text) {
  return new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], { type: "image/png" });
}

// --- an image is chosen ---

async function choose(file) {
  const mine = ++generation;
  let input;
  try {
    input = await fit(file);
  } catch {
    statusLine.textContent = "The browser cannot read this file as an image.";
    return;
  }
  for (const image of document.querySelectorAll("#plain img, #plain-row .mine")) put(image, input.blob);
  document.querySelector("#plain-row img:not(.mine)").src = `/dashboard/playground/set.png?width=${input.width}&height=${input.height}`;
  document.getElementById("main").style.setProperty("--shape", `${input.width} / ${input.height}`);
  document.getElementById("plain-size").textContent = `${input.width} × ${input.height} pixels`;
  for (const cell of previewCells) {
    part(cell, "images").hidden = true;
    part(cell, "figures").replaceChildren(line("queued", "dim"));
    cell.classList.remove("seen");
  }
  document.getElementById("protected").hidden = document.getElementById("previews").hidden = false;
  statusLine.textContent = "Protecting …";
  const started = performance.now();
  const done = await Promise.all(cards.map((card) => protect(card, input, mine)));
  if (mine !== generation) return;
  const seconds = ((performance.now() - started) / 1000).toFixed(2);
  const summary = `Protected under ${done.filter(Boolean).length} of ${cards.length} schemes in ${seconds} s.`;
  statusLine.textContent = `${summary} The attacks are running.`;
  // Attack by attack, the fastest first.
  for (const attack of new Set(previewCells.map((cell) => cell.dataset.preview))) {
    for (const cell of previewCells.filter((each) => each.dataset.preview === attack)) {
      if (mine !== generation) return;
      await preview(cell, input, mine);
    }
  }
  if (mine === generation) statusLine.textContent = `${summary} The attacks have finished.`;
}

const pressed = (button) => {
  for (const each of document.querySelectorAll("[data-photograph]")) each.setAttribute("aria-pressed", String(each === button));
};

for (const button of document.querySelectorAll("[data-photograph]")) {
  button.addEventListener("click", async () => {
    pressed(button);
    const answer = await fetch(button.querySelector("img").src);
    if (answer.ok) choose(await answer.blob());
    else statusLine.textContent = "This photograph is not available. Choose another one or your own image.";
  });
}

const drop = document.getElementById("drop");
document.getElementById("file").addEventListener("change", (event) => {
  pressed(null);
  if (event.target.files[0]) choose(event.target.files[0]);
});
for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault(); // an image dropped outside the field must not replace the page
    drop.classList.toggle("over", type === "dragenter" || type === "dragover");
  });
}
document.addEventListener("drop", (event) => {
  const [file] = event.dataTransfer.files;
  pressed(null);
  if (file) choose(file);
});
