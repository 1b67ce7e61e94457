// The page of datasets: an upload, then the list with it.
import { uploads } from "./upload.js";

const by = (id) => document.getElementById(id);
const shown = () => (by("originals-field").hidden = by("kind").value !== "protected");
by("kind").addEventListener("change", shown);
shown(); // a browser may remember the choice

uploads({
  drop: by("drop"),
  input: by("archive"),
  bar: by("sent"),
  status: by("uploaded"),
  fields: () => ({ kind: by("kind").value, ...(by("kind").value === "protected" && by("originals").files[0] ? { originals: by("originals").files[0] } : {}) }),
  done: () => location.reload(),
});
