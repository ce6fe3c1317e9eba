// The offer, shown by a browser: says so once, so that texts that nobody opens are noticed. Nothing waits for it, and
// nothing is said of who looks.
(() => {
  "use strict";

  const place = document.querySelector("[data-seen-url]");
  if (!place || !window.fetch) return;
  fetch(place.dataset.seenUrl, { method: "POST", cache: "no-store", credentials: "same-origin" }).catch(() => {});
})();
