// Which view is shown, by the page's address; the theme; and the dialogs that any view may open.

import { linkDocuments } from "./documents.js";
import { byId } from "./dom.js";
import { onKeyWanted } from "./net.js";
import { Play } from "./play.js";
import { Pool } from "./pool.js";

const play = new Play({ goTo: (sessionId) => go({ session: sessionId, pool: false }), confirm });
const pool = new Pool({ confirm, play: (sessionId) => go({ session: sessionId, pool: false }) });

/** What the address names, in its fragment: `#session=<id>`, and `#pool` before it for the other view. */
function named() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  return { session: fragment.get("session") || null, pool: fragment.has("pool") };
}

function fragmentOf({ session, pool: isPool }) {
  const parts = [isPool ? "pool" : "", session === null ? "" : `session=${encodeURIComponent(session)}`];
  return `#${parts.filter(Boolean).join("&") || "play"}`;
}

function go(place) {
  history.pushState(null, "", fragmentOf(place));
  show();
}

function show() {
  const place = named();
  byId("view-play").hidden = place.pool;
  byId("view-pool").hidden = !place.pool;
  for (const [id, here, isPool] of [["to-play", !place.pool, false], ["to-pool", place.pool, true]]) {
    byId(id).href = fragmentOf({ ...place, pool: isPool });
    if (here) byId(id).setAttribute("aria-current", "page");
    else byId(id).removeAttribute("aria-current");
  }
  byId("to-play-brand").href = byId("to-play").href;
  document.title = `${place.pool ? "Pool" : "Play"} · Metagame`;
  play.open(place.session);
  if (place.pool) pool.show();
  else pool.hide();
}

/** Whether the person at the page says yes. */
function confirm({ title, text, yes }) {
  const dialog = byId("confirm");
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  byId("confirm-no").focus();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

onKeyWanted((again) => {
  const [dialog, input] = [byId("key"), byId("key-input")];
  byId("key-title").textContent = again ? "The server does not take this API key" : "This server wants an API key";
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "use" ? input.value.trim() : null), { once: true }),
  );
});
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  byId("key").close("use");
});
byId("key-cancel").addEventListener("click", () => byId("key").close(""));

linkDocuments();

const theme = byId("theme");
theme.value = window.metagameTheme.get();
theme.addEventListener("change", () => window.metagameTheme.set(theme.value));

// The fragment names a place, not an element: the browser's own way of skipping would lose the session.
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});

addEventListener("hashchange", show);
addEventListener("popstate", show);
show();
