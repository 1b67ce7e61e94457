// A zip of images becomes a data set: by drag and drop or from a file field, with progress.

/** Calls `done` with the data set that POST /datasets answers; `fields` may add to the form. */
export function uploads({ drop, input, bar, said, fields = () => ({}), done }) {
  function send(file) {
    const form = new FormData();
    form.append("name", file.name.replace(/\.zip$/i, "") || "images");
    for (const [name, value] of Object.entries(fields())) form.append(name, value);
    form.append("archive", file);
    const request = new XMLHttpRequest(); // fetch tells nothing of how much has been sent
    request.upload.onprogress = (event) => {
      bar.value = event.loaded / event.total;
      said.textContent = event.loaded < event.total ? `${Math.round(100 * bar.value)} % sent` : "Sent; it is being unpacked …";
    };
    request.onload = () => {
      bar.hidden = true;
      let answer = {};
      try {
        answer = JSON.parse(request.responseText);
      } catch {
        // said below
      }
      if (request.status !== 201) return (said.textContent = answer.detail || `the service answered ${request.status}`);
      said.textContent = `${answer.name}: ${answer.train} images to train on, ${answer.test} to attack.`;
      done(answer);
    };
    request.onerror = () => {
      bar.hidden = true;
      said.textContent = "The connection broke; nothing was stored.";
    };
    bar.value = 0;
    bar.hidden = false;
    request.open("POST", "/datasets");
    request.send(form);
  }

  input.addEventListener("change", () => input.files[0] && send(input.files[0]));
  for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
    drop.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", type === "dragenter" || type === "dragover");
    });
  }
  drop.addEventListener("drop", (event) => event.dataTransfer.files[0] && send(event.dataTransfer.files[0]));
}
