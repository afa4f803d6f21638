// The table of the pool's sessions: pages, search, a closer look, and their end.

import { announce, byId, clock, copy, cut, h, number, say, shortened } from "./dom.js";
import { Problem, ask } from "./net.js";

const ROWS = 50;
const SEARCHED = 1_000;
const MOST_SEARCHED = 200_000;
const MOST_FOUND = 200;

export class Sessions {
  #confirm;
  #play;
  #cursors = [null];
  #next = null;
  #query = "";
  #stop = null;
  #inspected = null;
  #readAt = null;

  constructor({ confirm, play }) {
    this.#confirm = confirm;
    this.#play = play;
    byId("sessions-search").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#query = byId("sessions-query").value.trim();
      this.#first();
    });
    byId("sessions-query").addEventListener("search", () => byId("sessions-query").value === "" && this.#clear());
    byId("sessions-query").addEventListener("input", () => byId("sessions-query").value === "" && this.#clear());
    byId("sessions-refresh").addEventListener("click", () => this.refresh());
    byId("sessions-next").addEventListener("click", () => this.#go([...this.#cursors, this.#next]));
    byId("sessions-back").addEventListener("click", () => this.#go(this.#cursors.slice(0, -1)));
    byId("inspect-copy").addEventListener("click", (event) => copy(this.#inspected, event.currentTarget));
    byId("inspect-play").addEventListener("click", () => {
      byId("inspect").close();
      this.#play(this.#inspected);
    });
    byId("inspect-end").addEventListener("click", () => this.#end(this.#inspected));
  }

  /** The page that is shown, as it is now. */
  refresh() {
    return this.#query === "" ? this.#go(this.#cursors) : this.#search(this.#query);
  }

  #first() {
    this.#cursors = [null];
    this.refresh();
  }

  #clear() {
    if (this.#query === "") return;
    this.#query = "";
    this.#first();
  }

  async #go(cursors) {
    await this.#asking(async (signal) => {
      const page = await this.#page(cursors.at(-1), ROWS, signal);
      this.#cursors = cursors;
      this.#next = page.next_cursor;
      this.#draw(unique(page.sessions));
      say(byId("sessions-said"), page.sessions.length === 0 ? (page.next_cursor === null ? "No sessions." : "None on this page.") : `${page.sessions.length} on this page`);
      this.#paging();
    });
  }

  /** A whole id is looked up at once; a part of one is sought page by page, as the server keeps no index of parts. */
  async #search(query) {
    await this.#asking(async (signal) => {
      let found = [];
      if (/^[A-Za-z0-9._-]{1,128}$/.test(query)) {
        found = await ask(`sessions/${encodeURIComponent(query)}`, { signal }).then((item) => [item], notThere);
      }
      this.#draw(found);
      let [looked, cursor] = [0, null];
      do {
        const page = await this.#page(cursor, SEARCHED, signal);
        const like = (id) => id?.toLowerCase().includes(query.toLowerCase());
        found = unique([...found, ...page.sessions.filter((item) => like(item.session_id) || like(item.episode_id))]);
        looked += page.sessions.length;
        cursor = page.next_cursor;
        this.#draw(found.slice(0, MOST_FOUND));
        say(byId("sessions-said"), `${number.whole(found.length)} found in ${number.whole(looked)} sessions${cursor === null ? "" : " so far"}`);
      } while (cursor !== null && looked < MOST_SEARCHED && found.length < MOST_FOUND);
      this.#next = null;
      this.#cursors = [null];
      this.#paging();
    });
  }

  #page(cursor, limit, signal) {
    const query = new URLSearchParams({ limit: String(limit), ...(cursor === null ? {} : { cursor }) });
    return ask(`sessions?${query}`, { signal });
  }

  /** One question at a time; the newest counts. */
  async #asking(work) {
    this.#stop?.abort();
    const stop = new AbortController();
    this.#stop = stop;
    byId("sessions-box").setAttribute("aria-busy", "true");
    try {
      await work(stop.signal);
      this.#readAt = new Date();
      byId("sessions").classList.remove("old");
    } catch (error) {
      if (stop.signal.aborted) return;
      const status = error instanceof Problem ? error.status : null;
      if (this.#readAt !== null && (status === null || status >= 500)) {
        byId("sessions").classList.add("old");
        say(byId("sessions-said"), `${error.message} These are as of ${clock(this.#readAt)}.`);
        if (this.#stop === stop) byId("sessions-box").removeAttribute("aria-busy");
        return;
      }
      this.#draw([]);
      this.#next = null;
      this.#paging();
      say(byId("sessions-said"), status === 404 ? "This server lists no sessions: it runs in production mode." : error.message);
    }
    if (this.#stop === stop) byId("sessions-box").removeAttribute("aria-busy");
  }

  #paging() {
    byId("sessions-back").disabled = this.#cursors.length < 2;
    byId("sessions-next").disabled = this.#next === null;
    say(byId("sessions-page"), this.#query === "" ? `Page ${this.#cursors.length}` : "Found");
  }

  #draw(items) {
    byId("sessions").replaceChildren(...items.map((item) => this.#row(item)));
  }

  #row(item) {
    const id = item.session_id;
    const socket = item.attached === null ? "unknown" : item.attached ? "attached" : "detached";
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, h("code", { title: id }, shortened(id)), h("button", { type: "button", class: "small quiet roomy", "aria-label": `Copy id ${shortened(id)}`, onclick: (event) => copy(id, event.currentTarget) }, "Copy"), h("span", { class: "sub slim" }, `${socket}, step ${number.whole(item.step_count)}`)),
      h("td", { class: "roomy" }, item.episode_id === null ? "–" : h("code", { title: item.episode_id }, cut(shortened(item.episode_id), 24))),
      h("td", { class: "num roomy" }, number.whole(item.step_count)),
      h("td", { class: "roomy" }, h("span", { class: `badge ${item.attached ? "good" : ""}` }, socket)),
      h("td", { class: "num roomy" }, number.span(item.expires_in_s)),
      h(
        "td",
        { class: "row-actions" },
        h("button", { type: "button", class: "small", "aria-label": `Inspect ${shortened(id)}`, onclick: () => this.#inspect(id) }, "Inspect"),
        h("button", { type: "button", class: "small danger", "aria-label": `End ${shortened(id)}`, "data-id": id, onclick: () => this.#end(id) }, "End"),
      ),
    );
  }

  async #inspect(id) {
    this.#inspected = id;
    const said = byId("inspect-said");
    said.hidden = true;
    byId("inspect-fields").replaceChildren(fact("session id", id));
    byId("inspect").showModal();
    try {
      const item = await ask(`sessions/${encodeURIComponent(id)}`);
      if (this.#inspected !== id) return;
      const facts = { ...item, attached: item.attached ? "yes: opening it here takes it over" : "no", expires_in_s: number.span(item.expires_in_s) };
      byId("inspect-fields").replaceChildren(...Object.entries(facts).map(([name, value]) => fact(NAMES[name] ?? name.replaceAll("_", " "), value ?? "–")));
    } catch (error) {
      said.textContent = error instanceof Problem && error.status === 404 ? "It is not there any more." : error.message;
      said.hidden = false;
    }
  }

  async #end(id) {
    byId("inspect").close();
    const sure = await this.#confirm({
      title: "End this session?",
      text: `${shortened(id)} ends for whoever is using it, and its episode cannot go on.`,
      yes: "End session",
    });
    if (!sure) return;
    try {
      await ask(`sessions/${encodeURIComponent(id)}`, { method: "DELETE" });
      announce("Session ended");
    } catch (error) {
      say(byId("sessions-said"), `Not ended: ${error.message}`);
      return;
    }
    const buttons = [...byId("sessions").querySelectorAll("button.danger")];
    const at = buttons.findIndex((button) => button.dataset.id === id);
    await this.refresh();
    this.#focusAt(at);
  }

  /** On the row that took an ended one's place, since the button that was pressed is gone. */
  #focusAt(index) {
    if (document.activeElement !== document.body) return;
    const rows = byId("sessions").rows;
    const row = rows[Math.min(Math.max(index, 0), rows.length - 1)];
    (row?.querySelector(".row-actions button") ?? byId("sessions-title")).focus();
  }
}

const NAMES = { expires_in_s: "expires in", attached: "socket attached" };

function fact(name, value) {
  return h("div", {}, h("dt", {}, name), h("dd", { class: "mono" }, String(value)));
}

/** A list may repeat a session. */
function unique(items) {
  return [...new Map(items.map((item) => [item.session_id, item])).values()];
}

function notThere(error) {
  if (error instanceof Problem && error.status === 404) return [];
  throw error;
}
