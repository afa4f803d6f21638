// The frames of this page's socket as they went over the wire.

import { byId, clock, copy, h } from "./dom.js";

const MOST = 200;
const TOKENS = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const LONGEST_COLOURED = 20_000;

/** The panel beside the play view. */
export class Frames {
  #list = byId("frames");
  #empty = byId("frames-empty");
  #count = byId("frames-count");
  #pretty = byId("frames-pretty");
  #shown = [];

  constructor() {
    this.#pretty.addEventListener("change", () => this.#shown.forEach((shown) => shown.write()));
    byId("frames-copy").addEventListener("click", (event) => copy(this.#shown.map(line).join("\n"), event.currentTarget));
    byId("frames-clear").addEventListener("click", () => this.clear());
  }

  /** One more, on top. */
  add(frame) {
    const body = h("pre", { tabindex: "0", "aria-label": "Frame" });
    const shown = { ...frame, body, write: () => this.#write(shown) };
    const kind = kindOf(frame.text);
    const element = h(
      "li",
      {},
      h(
        "details",
        { class: `frame ${frame.direction} ${kind === "error" ? "error" : ""}`, ontoggle: (event) => event.currentTarget.open && shown.write() },
        h(
          "summary",
          {},
          h("span", { class: "arrow", "aria-hidden": "true" }, frame.direction === "out" ? "→" : "←"),
          h("span", { class: "kind" }, h("span", { class: "offscreen" }, frame.direction === "out" ? "sent: " : "received: "), kind),
          frame.again && h("span", { class: "tag" }, "again"),
          h("span", { class: "size" }, `${new Blob([frame.text]).size.toLocaleString("en")} B`),
          h("time", {}, clock(frame.at)),
        ),
        h("div", { class: "frame-body" }, body, h("button", { type: "button", class: "small", onclick: (event) => copy(frame.text, event.currentTarget) }, "Copy")),
      ),
    );
    shown.element = element;
    this.#shown.unshift(shown);
    this.#list.prepend(element);
    for (const old of this.#shown.splice(MOST)) old.element.remove();
    this.#told();
  }

  /** None. */
  clear() {
    this.#shown = [];
    this.#list.replaceChildren();
    this.#told();
  }

  #told() {
    this.#empty.hidden = this.#shown.length > 0;
    this.#count.textContent = this.#shown.length === 0 ? "" : String(this.#shown.length);
  }

  #write({ text, body }) {
    if (!body.closest("details").open) return;
    const pretty = this.#pretty.checked ? indented(text) : text;
    body.replaceChildren(...(pretty.length > LONGEST_COLOURED ? [pretty] : coloured(pretty)));
  }
}

function kindOf(text) {
  return /"type"\s*:\s*"(\w+)"/.exec(text)?.[1] ?? "?";
}

function line({ direction, text, at }) {
  return `${clock(at)} ${direction === "out" ? "→" : "←"} ${text}`;
}

function indented(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function coloured(text) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(TOKENS)) {
    parts.push(text.slice(end, match.index));
    const kind = match[1] === undefined ? "literal" : match[2] === undefined ? "string" : "key";
    parts.push(h("span", { class: `json-${kind}` }, match[1] ?? match[0]));
    if (match[2] !== undefined) parts.push(match[2]);
    end = match.index + match[0].length;
  }
  return [...parts, text.slice(end)];
}
