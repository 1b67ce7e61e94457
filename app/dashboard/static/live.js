// The page of a running evaluation. Progress moves bars in place; for all else the server renders the page anew and the
// parts that changed are swapped in: at most once a second, not while the page is hidden, and only after an event.
import { refresh } from "./parts.js";

const { evaluation, version } = document.getElementById("live").dataset;
const note = document.getElementById("connection");
const ended = () => document.getElementById("standing").dataset.ended === "yes";

const LEAST_MS = 1000;
let last = 0;
let due = Infinity;
let timer;

/** Look at the page again within `ms`, a burst of wishes being one look. */
function look(ms) {
  const at = Math.max(performance.now() + ms, last + LEAST_MS);
  if (at >= due) return;
  due = at;
  clearTimeout(timer);
  timer = setTimeout(now, at - performance.now());
}

async function now() {
  if (document.hidden) return; // `due` stays: the look is owed
  due = Infinity;
  last = performance.now();
  const answered = await refresh(location.href);
  note.hidden ||= answered;
  if (!answered) look(3000);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && due <= performance.now()) now();
});

function progress({ cell, progress, phase, evaluation }) {
  const bar = document.getElementById(`bar-${cell}`);
  if (!bar) return look(0);
  bar.value = progress;
  document.getElementById(`phase-${cell}`).textContent = phase;
  const overall = document.getElementById("overall");
  if (overall) overall.value = evaluation.fraction;
  look(5000); // for the time that is left
}

let seen = version;
let pause = 1000;

function follow() {
  const source = new EventSource(`/evaluations/${evaluation}/events?after=${seen}`);
  const on = (type, act) =>
    source.addEventListener(type, (event) => {
      seen = event.lastEventId;
      act(JSON.parse(event.data));
    });
  on("progress", progress);
  on("metric", () => look(2000));
  on("cell", () => look(0));
  on("status", () => look(0));
  source.onopen = () => {
    note.hidden = true;
    pause = 1000;
  };
  source.onerror = async () => {
    if (source.readyState !== EventSource.CLOSED) {
      note.hidden = false; // the browser connects again by itself, and says which event it has seen
      return;
    }
    await now();
    if (ended()) return; // 204: there is nothing more to come
    note.hidden = false;
    setTimeout(follow, pause);
    pause = Math.min(2 * pause, 30000);
  };
}

if (!ended()) follow();
