// The server's documents. Where it wants a key they are shown in the page, which has one: a link carries none, and
// would lead to a refusal.

import { byId, copy, h, prose } from "./dom.js";
import { ask, whenKeyed } from "./net.js";

const DOCUMENTS = { "to-docs": "openapi.json", "to-schema": "schema" };

/** Have the links of the foot lead to what their reader may see. */
export function linkDocuments() {
  byId("document-copy").addEventListener("click", (event) => copy(byId("document-text").textContent, event.currentTarget));
  whenKeyed(() => {
    for (const [id, path] of Object.entries(DOCUMENTS)) {
      const link = byId(id);
      if (link.tagName !== "A") continue;
      link.replaceWith(h("button", { type: "button", class: "link", id, "aria-haspopup": "dialog", onclick: () => show(link.textContent, path) }, link.textContent));
    }
  });
}

async function show(title, path) {
  const shown = await ask(path).then(
    (body) => [JSON.stringify(body, null, 2)],
    (error) => prose(error.message),
  );
  byId("document-title").textContent = title;
  byId("document-text").replaceChildren(...shown);
  byId("document").showModal();
}
