// The page of a running evaluation. Progress events move the bars in place. For other events the server
// renders the page again and the changed parts are replaced: at most once a second, and only while the page is visible.
import { refresh } from "./parts.js";

const { evaluation, version } = document.getElementById("live").dataset;
const note = document.getElementById("connection");
const ended = () => document.getElementById("standing").dataset.ended === "yes";

const LEAST_MS = 1000;
let last = 0;
let due = Infinity;
let timer;

/** Refresh the page within `ms`; a burst of calls leads to one refresh. */
function scheduleRefresh(ms) {
  const at = Math.max(performance.now() + ms, last + LEAST_MS);
  if (at >= due) return;
  due = at;
  clearTimeout(timer);
  timer = setTimeout(refreshPage, at - performance.now());
}

async function refreshPage() {
  if (document.hidden) return; // `due` stays set, so the page is refreshed when it becomes visible
  due = Infinity;
  last = performance.now();
  const answered = await refresh(location.href);
  note.hidden ||= answered;
  if (!answered) scheduleRefresh(3000);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && due <= performance.now()) refreshPage();
});

function progress({ cell, key, progress, phase, evaluation }) {
  const job = cell ?? key;
  const bars = document.querySelectorAll(`[data-bar="${job}"]`);
  if (!bars.length) return scheduleRefresh(0);
  for (const bar of bars) bar.value = progress;
  for (const text of document.querySelectorAll(`[data-phase="${job}"]`)) text.textContent = phase;
  const overall = document.getElementById("overall");
  if (overall) overall.value = evaluation.fraction;
  scheduleRefresh(5000); // updates the estimated time left
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
  on("metric", () => scheduleRefresh(2000));
  on("cell", () => scheduleRefresh(0));
  on("status", () => scheduleRefresh(0));
  source.onopen = () => {
    note.hidden = true;
    pause = 1000;
  };
  source.onerror = async () => {
    source.close(); // the browser would reconnect every few seconds for as long as the service is away
    await refreshPage();
    if (ended()) return; // 204: no further events
    note.hidden = false;
    setTimeout(follow, pause);
    pause = Math.min(2 * pause, 30000);
  };
}

if (!ended()) follow();
