// Keeps the clock of an open page going, and shows the page anew when the phone has changed. Everything works without it.
"use strict";

const stage = document.querySelector("[data-now]");

if (stage) {
  const offset = new Date(stage.dataset.now).getTime() - Date.now();
  const format = new Intl.DateTimeFormat("nb-NO", { hour: "2-digit", minute: "2-digit", timeZone: stage.dataset.zone || "Europe/Oslo" });

  const tick = () => {
    const face = format.format(new Date(Date.now() + offset));
    document.querySelectorAll("[data-face]").forEach((element) => { element.textContent = face; });
  };

  const look = async () => {
    if (document.hidden || document.querySelector("details[open]")) return;
    try {
      const answer = await fetch(stage.dataset.versionUrl, { headers: { Accept: "application/json" } });
      const { version, now } = await answer.json();
      const moved = Math.abs(new Date(now).getTime() - Date.now() - offset) > 60000;
      if (version !== stage.dataset.version || moved) location.reload();
    } catch {
      // The simulator is being restarted; the next look will tell.
    }
  };

  setInterval(tick, 1000);
  if (stage.dataset.versionUrl) setInterval(look, 1500);

  // Moving the clock takes a moment: say so, and do not move it twice.
  document.querySelectorAll("form").forEach((form) => form.addEventListener("submit", () => {
    form.classList.add("going");
    form.setAttribute("aria-busy", "true");
  }));
}

// Going back from the landing page calls the request off, as the button for it does.
const back = document.querySelector("form[data-back]");

if (back) {
  history.pushState(null, "", location.href);
  addEventListener("popstate", () => back.requestSubmit(back.querySelector("button")));
}
