// The playground: one image under every scheme by POST /encrypt, back by POST /decrypt, then the previews of attacks.

const cards = [...document.querySelectorAll(".shot[data-scheme]")];
const looks = [...document.querySelectorAll("[data-look]")];
const said = document.getElementById("said");
const side = 256;
const smallest = 16;
let turn = 0; // counts pictures: what belongs to an earlier one is dropped

const part = (element, name) => element.querySelector(`[data-is=${name}]`);

/** A picture file as a PNG of at most `side` pixels, cut to twice as long as wide where it is longer. */
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
  made.append("images", blob, "picture.png");
  for (const [name, value] of Object.entries(fields)) made.append(name, value);
  return made;
}

/** POST a form. Throws what the service says of a failure. */
async function post(path, body, accept) {
  const answer = await fetch(path, { method: "POST", body, headers: { Accept: accept } });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({ detail: `the service answered ${answer.status}` }));
  throw Object.assign(new Error(problem.detail), { code: problem.code });
}

function put(image, blob) {
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(blob);
}

// --- protect, and back ---

async function protect(card, picture, mine) {
  const error = part(card, "error");
  error.hidden = true;
  card.classList.add("waits");
  // One key for all pictures, unless the scheme has a key for each.
  const known = card.dataset.key && !("perImage" in card.dataset);
  const fields = known ? { key_id: card.dataset.key } : { scheme: card.dataset.scheme, params: card.dataset.params };
  try {
    const answer = await post("/encrypt", form(picture.blob, fields), "image/png");
    const blob = await answer.blob();
    if (mine !== turn) return false;
    card.dataset.key = answer.headers.get("Key-Id");
    show(card, blob, picture);
    return true;
  } catch (failure) {
    error.textContent = failure.message;
    error.hidden = false;
    return false;
  } finally {
    if (mine === turn) card.classList.remove("waits");
  }
}

function show(card, blob, picture) {
  const image = card.querySelector("img");
  put(image, blob);
  const key = part(card, "key");
  key.textContent = card.dataset.key;
  key.href = `/dashboard/keys#${card.dataset.key}`;
  const download = part(card, "download");
  download.href = image.src;
  download.download = `${card.dataset.title.replace(/[^a-z0-9]+/gi, "-").replace(/-$/, "")}.png`;
  key.hidden = download.hidden = false;
  part(card, "undone").textContent = "";
  const decrypt = part(card, "decrypt");
  if (!decrypt) return;
  decrypt.hidden = false;
  decrypt.textContent = "Decrypt";
  let plain = null;
  decrypt.onclick = async () => {
    if (plain) {
      // the second press shows the protected picture again
      plain = null;
      decrypt.textContent = "Decrypt";
      part(card, "undone").textContent = "";
      return put(image, blob);
    }
    try {
      const answer = await post("/decrypt", form(blob, { key_id: card.dataset.key }), "image/png");
      plain = await answer.blob();
      put(image, plain);
      decrypt.textContent = "Show protected";
      part(card, "undone").textContent = (await same(plain, picture)) ? "Decrypted: equal to yours in every pixel." : "Decrypted: differs from yours.";
    } catch (failure) {
      part(card, "undone").textContent = failure.message;
    }
  };
}

async function same(blob, picture) {
  const { width, height, pixels } = await fit(blob);
  return width === picture.width && height === picture.height && pixels.every((value, i) => value === picture.pixels[i]);
}

// --- what attacks see ---

async function look(cell, picture, mine) {
  const card = cards[cell.dataset.card];
  const figures = part(cell, "figures");
  if (!card.dataset.key) return figures.replaceChildren("not protected");
  figures.replaceChildren("works …");
  const body = () => form(picture.blob, { key_id: card.dataset.key, attack: cell.dataset.look });
  let seen;
  while (!seen) {
    try {
      seen = await (await post("/dashboard/playground/look", body(), "application/json")).json();
    } catch (failure) {
      if (mine !== turn) return;
      if (failure.code !== "playground_busy") return figures.replaceChildren(line(failure.message), again(cell, picture, mine));
      await new Promise((done) => setTimeout(done, 300)); // another page of this account is at it
    }
  }
  if (mine !== turn) return;
  if (seen.failed_attack) return figures.replaceChildren(`It found nothing: ${seen.failed_attack}.`);
  const pictures = part(cell, "pictures");
  [...pictures.children].forEach((image, i) => put(image, png(seen.pictures[i])));
  pictures.hidden = false;
  const strong = document.createElement("strong");
  strong.textContent = `SSIM ${seen.ssim.toFixed(3)}`;
  const picked = `${seen.picked ? "picked out" : "not picked out"}; ${seen.picked_of_set} of all ${seen.set} are`;
  const key = seen.exact_key === null ? [] : [line(seen.exact_key ? "the exact key was found" : "the key was found in part")];
  figures.replaceChildren(strong, line(picked), ...key, line(`${seen.seconds.toFixed(2)} s`, "dim"));
  cell.classList.toggle("seen", seen.ssim >= 0.9);
}

/** A button that has the attack tried once more. */
function again(cell, picture, mine) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "small";
  button.textContent = "Try again";
  button.onclick = () => look(cell, picture, mine);
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

// --- a picture is chosen ---

async function choose(file) {
  const mine = ++turn;
  let picture;
  try {
    picture = await fit(file);
  } catch {
    said.textContent = "The browser cannot read this file as an image.";
    return;
  }
  for (const image of document.querySelectorAll("#plain img, #plain-row .mine")) put(image, picture.blob);
  document.querySelector("#plain-row img:not(.mine)").src = `/dashboard/playground/set.png?width=${picture.width}&height=${picture.height}`;
  document.getElementById("main").style.setProperty("--shape", `${picture.width} / ${picture.height}`);
  document.getElementById("plain-size").textContent = `${picture.width} × ${picture.height} pixels`;
  for (const cell of looks) {
    part(cell, "pictures").hidden = true;
    part(cell, "figures").replaceChildren(line("waits", "dim"));
    cell.classList.remove("seen");
  }
  document.getElementById("protected").hidden = document.getElementById("looks").hidden = false;
  said.textContent = "Protecting …";
  const started = performance.now();
  const done = await Promise.all(cards.map((card) => protect(card, picture, mine)));
  if (mine !== turn) return;
  const seconds = ((performance.now() - started) / 1000).toFixed(2);
  const told = `Protected under ${done.filter(Boolean).length} of ${cards.length} schemes in ${seconds} s.`;
  said.textContent = `${told} The attacks are running.`;
  // A column after the other: what takes a moment first.
  for (const attack of new Set(looks.map((cell) => cell.dataset.look))) {
    for (const cell of looks.filter((each) => each.dataset.look === attack)) {
      if (mine !== turn) return;
      await look(cell, picture, mine);
    }
  }
  if (mine === turn) said.textContent = `${told} The attacks have finished.`;
}

const pressed = (button) => {
  for (const each of document.querySelectorAll("[data-photograph]")) each.setAttribute("aria-pressed", String(each === button));
};

for (const button of document.querySelectorAll("[data-photograph]")) {
  button.addEventListener("click", async () => {
    pressed(button);
    const answer = await fetch(button.querySelector("img").src);
    if (answer.ok) choose(await answer.blob());
    else said.textContent = "This photograph cannot be had now; drop one of yours.";
  });
}

const drop = document.getElementById("drop");
document.getElementById("file").addEventListener("change", (event) => {
  pressed(null);
  if (event.target.files[0]) choose(event.target.files[0]);
});
for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault(); // a picture dropped beside the field must not replace the page
    drop.classList.toggle("over", type === "dragenter" || type === "dragover");
  });
}
document.addEventListener("drop", (event) => {
  const [file] = event.dataTransfer.files;
  pressed(null);
  if (file) choose(file);
});
