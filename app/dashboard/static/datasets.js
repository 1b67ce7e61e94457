// The page of data sets: an upload, then the list with it.
import { uploads } from "./upload.js";

const by = (id) => document.getElementById(id);
uploads({
  drop: by("drop"),
  input: by("archive"),
  bar: by("sent"),
  said: by("uploaded"),
  fields: () => ({ kind: by("kind").value }),
  done: () => location.reload(),
});
