// Elements, text and the clipboard. Text reaches the page as text only: nothing here parses markup.

const SVG = "http://www.w3.org/2000/svg";

/** The element of this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** An element; `on…` are listeners, false and null are left out, true is an attribute without a value. */
export function h(tag, props = {}, ...children) {
  return filled(document.createElement(tag), props, children);
}

/** The same in SVG. */
export function s(tag, props = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), props, children);
}

function filled(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Set text only where it differs, so that a live region is not read again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Text in which backticks mark code, as the server's messages have it, for an element's children. */
export function prose(text) {
  return text.split(/`([^`]+)`/).map((part, index) => (index % 2 === 1 ? h("code", {}, part) : part));
}

/** The parts of a notice: what it is about, the rest, and buttons of a label and what each does. */
export function notice(title, text, buttons = []) {
  return [
    h("p", { class: "notice-title" }, title),
    h("p", {}, prose(text)),
    ...(buttons.length === 0 ? [] : [h("div", { class: "actions" }, buttons.map(([label, act]) => h("button", { type: "button", onclick: act }, label)))]),
  ];
}

/** A setting or a note of this tab; nothing where the browser keeps none. */
export const kept = {
  get(name) {
    try {
      return JSON.parse(sessionStorage.getItem(name));
    } catch {
      return null;
    }
  },
  set(name, value) {
    try {
      if (value === null) sessionStorage.removeItem(name);
      else sessionStorage.setItem(name, JSON.stringify(value));
      return true;
    } catch {
      return false; // full, or closed to a page in another page's frame
    }
  },
};

/** Random hexadecimal digits; crypto.randomUUID is there on https and localhost only. */
export function randomHex(bytes = 16) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A moment of the day. */
export function clock(at) {
  return new Date(at).toLocaleTimeString("en", { hour12: false });
}

/** Copy, and say so on the button that was pressed. */
export async function copy(text, button) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    done = copyBySelection(text);
  }
  const before = button.dataset.label ?? button.textContent;
  button.dataset.label = before;
  button.textContent = done ? "Copied" : "Not copied";
  announce(done ? "Copied" : "The browser does not allow copying");
  clearTimeout(button.copyTimer);
  button.copyTimer = setTimeout(() => (button.textContent = before), 1500);
}

/** On plain http, and in a frame that may not use it, there is no clipboard. */
function copyBySelection(text) {
  const area = h("textarea", { class: "offscreen", "aria-hidden": "true", value: text });
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return done;
}

/** Tell a screen reader. */
export function announce(text) {
  const region = byId("announcer");
  region.textContent = "";
  requestAnimationFrame(() => (region.textContent = text));
}

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** Numbers as people read them; a dash for none. */
export const number = {
  whole: (value) => (isNumber(value) ? WHOLE.format(value) : "–"),
  /** Up to so many decimals, and no noise of binary fractions. */
  decimal: (value, digits = 3) =>
    isNumber(value) ? new Intl.NumberFormat("en", { maximumFractionDigits: digits }).format(value) : "–",
  rate: (value) => (!isNumber(value) ? "–" : value < 10 ? number.decimal(value, 1) : WHOLE.format(value)),
  short: (value) => (!isNumber(value) ? "–" : Math.abs(value) < 10_000 ? WHOLE.format(value) : SHORT.format(value)),
  ms: (value) =>
    !isNumber(value) ? "–" : value < 10 ? number.decimal(value, 2) : value < 100 ? number.decimal(value, 1) : WHOLE.format(value),
  bytes(value) {
    if (!isNumber(value)) return "–";
    const power = Math.min(4, value < 1 ? 0 : Math.floor(Math.log2(value) / 10));
    return `${number.decimal(value / 1024 ** power, power > 0 && value / 1024 ** power < 100 ? 1 : 0)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
  },
  /** A stretch of time in its two largest units. */
  span(seconds) {
    if (!isNumber(seconds)) return "–";
    const left = Math.max(0, Math.round(seconds));
    if (left < 60) return `${left} s`;
    if (left < 3600) return `${Math.floor(left / 60)} min ${left % 60} s`;
    if (left < 86_400) return `${Math.floor(left / 3600)} h ${Math.floor((left % 3600) / 60)} min`;
    return `${Math.floor(left / 86_400)} d ${Math.floor((left % 86_400) / 3600)} h`;
  },
};

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** The beginning and the end of an id. */
export function shortened(id) {
  return id.length <= 16 ? id : `${id.slice(0, 8)}…${id.slice(-4)}`;
}

/** Text cut to a length, by code points. */
export function cut(text, most) {
  if (text.length <= most) return text;
  return `${[...text.slice(0, most + 1)].slice(0, most).join("")}…`;
}
