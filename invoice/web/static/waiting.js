// The page that waits for Vipps. It asks at once, then every 1.5 s, then more slowly, and never says that it failed:
// only the server knows, and it tells by the page that comes next.
(() => {
  "use strict";

  const place = document.querySelector("[data-poll-url]");
  if (!place || !window.fetch) return;

  const patience = place.querySelector("[data-patience]");
  const begun = Date.now();
  let timer = 0;
  let asking = false;

  // The wait grows after the first minute, from 1.5 s to at most 5 s.
  const pause = () => Math.min(5000, Math.max(1500, 1500 + (Date.now() - begun - 60000) / 20));

  const next = () => {
    clearTimeout(timer);
    timer = setTimeout(ask, pause());
    if (patience && Date.now() - begun > 20000) patience.hidden = false;
  };

  const ask = () => {
    clearTimeout(timer);
    if (asking) return;
    asking = true;
    const stop = new AbortController();
    const deadline = setTimeout(() => stop.abort(), 10000);
    fetch(place.dataset.pollUrl, {
      method: "POST",
      headers: { Accept: "application/json" },
      cache: "no-store",
      credentials: "same-origin",
      signal: stop.signal,
    })
      .then((answer) => (answer.ok ? answer.json() : { state: "waiting" }))
      .catch(() => ({ state: "waiting" })) // Out of reach for a moment is no answer; ask again.
      .then((answer) => {
        clearTimeout(deadline);
        asking = false;
        // By GET, also when this page came as the answer to a form.
        if (answer.state === "done") location.replace(location.pathname + location.search);
        else next();
      });
  };

  // Back from the Vipps app: browsers slow the timers of a page that is not looked at.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) ask();
  });

  ask();
})();
