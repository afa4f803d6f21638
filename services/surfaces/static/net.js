// Where the server is, and how it is asked: addresses, the API key, answers and errors.

import { kept } from "./dom.js";

/** The server's own root, whatever path a proxy puts before it. */
const ROOT = new URL("..", import.meta.url);
const KEY = "metagame.api-key";
const TIMEOUT_MS = 15_000;

let askForKey = async () => null;
let onKeyed = () => {};
let asking = null;
let declinedAt = -Infinity;
let key = kept.get(KEY);

/** Who asks for an API key where the server wants one: `ask(again)` gives it, or null. */
export function onKeyWanted(ask) {
  askForKey = ask;
}

/** What to do once it is known that the server wants a key, which no link carries. */
export function whenKeyed(act) {
  onKeyed = act;
  if (key !== null) act();
}

/** While a key is being asked for: whether one is given in the end; else null. */
export function keyAsked() {
  return asking;
}

/** The answer was an error: its status, and what it says. */
export class Problem extends Error {
  constructor(status, body) {
    const detail = body?.detail;
    super(typeof detail === "string" ? detail : `The server answered with status ${status}.`);
    this.status = status;
    this.code = body?.code;
    this.body = body;
  }
}

/** There was no answer. */
export class Unreachable extends Error {}

/** The address of a path of the server's. */
export function address(path) {
  return new URL(path, ROOT);
}

/** The address of this page for a session. The fragment never leaves the browser: the id is a key to the session. */
export function linkTo(sessionId) {
  const link = new URL(location.href);
  link.hash = `session=${encodeURIComponent(sessionId)}`;
  return link.href;
}

/** A socket on the session, with the API key where there is one: a browser sends no header with it. */
export function openSocket(sessionId) {
  const url = address(`sessions/${encodeURIComponent(sessionId)}/ws`);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return key === null ? new WebSocket(url) : new WebSocket(url, ["metagame", `metagame.key.${base64url(key)}`]);
}

/** The answer as JSON (null for an empty one); raises Problem or Unreachable. A 401 asks for a key, and tries again. */
export async function ask(path, { method = "GET", signal = null } = {}) {
  for (;;) {
    const [sent, began] = [key, performance.now()];
    const answer = await send(path, method, signal);
    const body = await answer.json().catch(() => null);
    if (answer.ok) return body;
    const problem = new Problem(answer.status, body);
    if (problem.status !== 401) throw problem;
    if (key !== sent) continue; // given meanwhile, for another request
    if (began < declinedAt || !(await keyFrom(sent !== null))) throw problem;
  }
}

async function send(path, method, signal) {
  const headers = { Accept: "application/json", ...(key === null ? {} : { "X-API-Key": key }) };
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  try {
    return await fetch(address(path), {
      method,
      headers,
      cache: "no-store",
      signal: signal === null ? limit : AbortSignal.any([signal, limit]),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable(limit.aborted ? `The server gave no answer within ${TIMEOUT_MS / 1000} s.` : "The server cannot be reached.");
  }
}

/** Whether a key was given. However many requests want one, it is asked for once, and not again for those before a no. */
function keyFrom(again) {
  onKeyed();
  asking ??= askForKey(again).then((given) => {
    asking = null;
    if (given) {
      key = given;
      kept.set(KEY, given);
    } else {
      declinedAt = performance.now();
    }
    return Boolean(given);
  });
  return asking;
}

function base64url(text) {
  const binary = String.fromCharCode(...new TextEncoder().encode(text));
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
