// Uploads a zip of images as a dataset, by drag and drop or from a file field, and shows the progress.

/** Calls `done` with the dataset in the response of POST /datasets; `fields` may add form fields. */
export function uploads({ drop, input, bar, status, fields = () => ({}), done }) {
  function send(file) {
    const form = new FormData();
    form.append("name", file.name.replace(/\.zip$/i, "") || "images");
    for (const [name, value] of Object.entries(fields())) form.append(name, value);
    form.append("archive", file);
    const request = new XMLHttpRequest(); // fetch does not report upload progress
    request.upload.onprogress = (event) => {
      bar.value = event.loaded / event.total;
      status.textContent = event.loaded < event.total ? `${Math.round(100 * bar.value)} % sent` : "Sent. The service is unpacking the file …";
    };
    request.onload = () => {
      bar.hidden = true;
      let answer = {};
      try {
        answer = JSON.parse(request.responseText);
      } catch {
        // reported below
      }
      if (request.status !== 201) return (status.textContent = answer.detail || `the service responded ${request.status}`);
      status.textContent = `${answer.name}: ${answer.train} training images, ${answer.test} test images.`;
      done(answer);
    };
    request.onerror = () => {
      bar.hidden = true;
      status.textContent = "The connection was lost; nothing was stored.";
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
