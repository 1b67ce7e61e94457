// The evaluation page follows its evaluation: events say that something changed, the server renders what.
const live = document.getElementById("live");
if (live && live.dataset.ended === "no") {
  const id = live.dataset.evaluation;
  let pending = false;
  let again = false;

  async function refresh() {
    if (pending) {
      again = true;
      return;
    }
    pending = true;
    try {
      const answer = await fetch(`/dashboard/evaluations/${id}?part=true`, { redirect: "error" });
      if (answer.ok) live.innerHTML = await answer.text();
    } catch {
      // the next event tries again
    }
    await new Promise((wake) => setTimeout(wake, 500)); // a burst of events is one look
    pending = false;
    if (again) {
      again = false;
      refresh();
    }
  }

  const events = new EventSource(`/evaluations/${id}/events`);
  for (const type of ["progress", "cell", "status"]) events.addEventListener(type, refresh);
  events.addEventListener("status", (event) => {
    if (["succeeded", "failed", "cancelled"].includes(JSON.parse(event.data).status)) events.close();
  });
}
