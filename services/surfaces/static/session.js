// One session, seen from this page: what it expects, when it sends again, and when it gives up.
//
// One request is under way at a time, and each carries a request id and the step at which the session is to stand.
// So after a socket, a worker or this page itself is gone, the same request is sent again on a new socket, and it
// happens once. What must not be guessed is loud: a session that ended, moved, or was taken by another page. A socket
// hears nothing of what others do to its session, so while nothing else is under way it asks.

import { cut, kept, randomHex } from "./dom.js";
import { Problem, Unreachable, ask, keyAsked, openSocket } from "./net.js";

const FIRST_PAUSE_MS = 150;
const LONGEST_PAUSE_MS = 5_000;
const CONNECT_TIMEOUT_MS = 10_000;
const ANSWER_TIMEOUT_MS = 15_000;
const GOODBYE_TIMEOUT_MS = 3_000;
const WATCH_MS = 5_000;
const FAILURES_TOLD = 4;
const KEPT_EVENTS = 200;
const KEPT_TEXT = 300;
const TAKEN_OVER = 4001;
const TOO_LARGE = 1009;
const NOTHING_YET = { episode_id: null, step_count: 0 };

/**
 * States: new (nothing sent yet), connecting, open, waiting (for the next attempt), and those that only the person
 * at the page ends: taken, lost, full, refused, ended.
 *
 * Events: "change" (anything), "frame" (one sent or received), "answer" (of a reset or step), "refusal" (of one),
 * "back" (on a new socket the session was found where it was left).
 */
export class Session extends EventTarget {
  constructor(id, { fresh = false } = {}) {
    super();
    this.id = id;
    this.state = "new";
    this.why = "";
    const before = fresh ? null : kept.get(this.#name);
    this.stands = before?.stands ?? (fresh ? NOTHING_YET : null);
    this.done = before?.done ?? false;
    this.last = before?.last ?? null;
    this.events = before?.events ?? [];
    this.total = before?.total ?? 0;
    this.totalSince = before?.totalSince ?? 0;
    this.pending = before?.pending ?? null;
    this.resumed = !fresh;
    this.#sent = this.pending !== null;
  }

  #socket = null;
  #opened = false;
  #asked = null;
  #said = null;
  #failures = 0;
  #timer = null;
  #limit = null;
  #watch = null;
  #sent = false;
  #wasOpen = false;

  get #name() {
    return `metagame.session.${this.id}`;
  }

  /** Whether an episode runs, as far as this page knows. */
  get running() {
    return this.stands !== null && this.stands.episode_id !== null;
  }

  /** Whether it has failed more often than a killed worker takes to be replaced by another. */
  get failing() {
    return this.#failures >= FAILURES_TOLD && ["waiting", "connecting", "open"].includes(this.state);
  }

  /** Start an episode; the page names it, so that it can say later which one it means. */
  reset(seed, episodeId, options) {
    const name = episodeId || randomHex();
    const data = { ...options, ...(seed === null ? {} : { seed }), episode_id: name };
    this.#act({ type: "reset", data });
  }

  /** Take one step from where the last answer left the session. */
  step(action) {
    this.#act({ type: "step", data: action });
  }

  /** Have a socket, now. */
  connect() {
    if (this.#socket !== null || this.state === "ended") return;
    clearTimeout(this.#timer);
    const asked = keyAsked();
    if (asked !== null) return this.#holdUntil(asked);
    this.#said = null;
    this.#opened = false;
    this.#become("connecting");
    const socket = openSocket(this.id);
    this.#socket = socket;
    socket.onopen = () => this.#begin();
    socket.onmessage = (event) => this.#hear(event.data);
    socket.onclose = (event) => this.#closed(event.code);
    this.#within(CONNECT_TIMEOUT_MS);
  }

  /** No socket opens without the key that is being asked for. */
  #holdUntil(asked) {
    this.#become("waiting", this.why);
    asked.then((given) => {
      if (this.state !== "waiting") return;
      if (given) this.connect();
      else this.#stop("refused", "This server wants an API key, and none was given.");
    });
  }

  /** The same without waiting for the next attempt: the network is back, or somebody pressed the button. */
  hurry() {
    if (this.state === "waiting") this.connect();
  }

  /** Take the session back, or try again where only a person may say so. */
  again() {
    if (["taken", "full", "refused"].includes(this.state)) {
      this.#failures = 0;
      this.connect();
    }
  }

  /** Do not send the request under way again; whether it counted, the session's state will tell. */
  giveUp() {
    this.pending = null;
    this.#keep();
    this.#drop();
    this.connect();
  }

  /** Leave the session as it is. */
  leave() {
    this.#drop();
    clearTimeout(this.#timer);
    this.#become("ended");
  }

  /** End it, for everybody. */
  async end() {
    try {
      await ask(`sessions/${encodeURIComponent(this.id)}`, { method: "DELETE" });
    } catch (error) {
      if (!(error instanceof Problem && [404, 405].includes(error.status)) || this.#socket?.readyState !== WebSocket.OPEN) throw error;
      await this.#sayGoodbye(); // in production mode no request ends a session, but its socket does
    }
    this.leave();
    kept.set(this.#name, null);
  }

  get #expect() {
    return this.stands === null ? {} : { expect: { ...this.stands } };
  }

  #act(frame) {
    if (this.pending !== null) return;
    this.pending = { ...frame, request_id: randomHex(), ...this.#expect };
    this.#sent = false;
    this.#keep();
    if (this.state === "open" && this.#asked === null) this.#send(this.pending);
    else if (this.state === "new" || this.state === "waiting") this.connect();
    this.#changed();
  }

  /** The socket is open: send what is under way (again), else ask where the session stands. */
  #begin() {
    this.#opened = true;
    this.#become("open");
    if (this.pending !== null) {
      this.#send(this.pending);
    } else {
      this.#send({ type: "state", request_id: randomHex() });
    }
  }

  #send(frame, { quiet = false } = {}) {
    clearTimeout(this.#watch);
    const text = JSON.stringify(frame);
    this.#asked = { frame, at: performance.now(), quiet };
    this.#socket.send(text);
    const isPending = frame === this.pending;
    if (!quiet) this.#show("out", text, isPending && this.#sent);
    this.#sent ||= isPending;
    this.#within(ANSWER_TIMEOUT_MS);
  }

  /** Ask every now and then where the session stands, as long as somebody looks. */
  #watchOver() {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => {
      if (this.state !== "open" || this.#asked !== null) return;
      if (document.hidden) this.#watchOver();
      else this.#send({ type: "state", request_id: randomHex() }, { quiet: true });
    }, WATCH_MS);
  }

  #hear(text) {
    if (!this.#asked?.quiet) this.#show("in", text, false);
    let frame = null;
    try {
      frame = JSON.parse(text);
    } catch {
      return this.#lose();
    }
    const asked = this.#asked;
    if (asked === null || frame.request_id !== asked.frame.request_id) {
      if (frame.type !== "error") return this.#lose(); // not the answer that was waited for: none after it would be
      this.#said = frame.data; // unasked: the server says why it closes
      if (frame.data.reason === "session_taken_over") this.#stop("taken", frame.data.message);
      return;
    }
    this.#asked = null;
    clearTimeout(this.#limit);
    if (frame.type === "error") this.#refused(asked.frame, frame.data);
    else if (asked.frame.type === "state") this.#found(frame.data);
    else this.#answered(asked, frame.data);
  }

  /** Where the session stands, asked for on a new socket. */
  #found(data) {
    const moved =
      this.stands !== null && (this.stands.episode_id !== data.episode_id || this.stands.step_count !== data.step_count);
    if (moved || this.stands === null) this.#standsAt(data);
    const back = this.#cameBack(moved);
    this.#settled(back, moved);
    if (this.pending !== null) this.#send(this.pending); // asked for while this was under way
  }

  /** What is to be said of a socket on which the session was found: noted where the events stand. */
  #cameBack(moved) {
    const kind = moved ? "moved" : this.#wasOpen ? "reconnected" : this.resumed ? "resumed" : null;
    if (kind !== null) this.#note(kind);
    return kind;
  }

  #settled(back, moved = false) {
    const reloaded = !this.#wasOpen;
    this.why = "";
    this.#failures = 0;
    this.#wasOpen = false;
    this.resumed = false;
    this.#keep();
    this.#watchOver();
    if (back !== null) this.dispatchEvent(new CustomEvent("back", { detail: { moved, reloaded } }));
    this.#changed();
  }

  #answered({ frame, at }, data) {
    const isReset = frame.type === "reset";
    const back = this.#cameBack(false);
    this.stands = isReset
      ? { episode_id: frame.data.episode_id, step_count: 0 }
      : { ...this.stands, step_count: this.stands.step_count + 1 };
    if (isReset) {
      this.total = 0;
      this.totalSince = 0;
    }
    this.total += typeof data.reward === "number" ? data.reward : 0;
    this.done = data.done === true;
    this.pending = null;
    this.last = data;
    const event = {
      kind: frame.type,
      step: this.stands.step_count,
      sent: isReset ? null : frame.data,
      data,
      ms: performance.now() - at,
      at: Date.now(),
    };
    if (isReset) this.events = [];
    this.#remember(event);
    this.#settled(back);
    this.dispatchEvent(new CustomEvent("answer", { detail: event }));
    this.#changed();
  }

  #refused(frame, data) {
    if (data.retryable === true) return this.#sendSoon(frame, data.message);
    switch (data.reason) {
      case "session_lost":
        return this.#stop("lost", data.message);
      case "session_taken_over":
        return this.#stop("taken", data.message);
      case "capacity_reached":
        return this.#stop("full", data.message);
    }
    if (frame === this.pending) this.pending = null;
    if (data.reason === "session_moved") {
      this.#standsAt(data);
      this.#note("moved");
    } else if (data.reason === "episode_over") {
      this.done = true;
    } else if (data.reason === "no_episode") {
      this.stands = NOTHING_YET;
    }
    this.#wasOpen = false;
    this.resumed = false;
    this.#failures = 0;
    this.#keep();
    this.dispatchEvent(new CustomEvent("refusal", { detail: { frame, data } }));
    if (["answer_forgotten", "unavailable"].includes(data.reason)) this.#send({ type: "state", request_id: randomHex() });
    else this.#watchOver();
    this.#changed();
  }

  /** Nothing is lost: the same request goes out again in a moment, on this socket if it stays. */
  #sendSoon(frame, why) {
    const socket = this.#socket;
    this.#become("open", why);
    this.#timer = setTimeout(() => {
      if (this.#socket === socket) this.#send(this.pending ?? frame);
    }, this.#pause());
  }

  #standsAt({ episode_id, step_count }) {
    if (this.stands?.episode_id !== episode_id) this.events = [];
    this.last = null;
    this.stands = { episode_id, step_count };
    this.done = false;
    this.total = 0;
    this.totalSince = step_count;
  }

  #closed(code) {
    const [opened, said] = [this.#opened, this.#said];
    this.#forget();
    if (code === TAKEN_OVER || said?.reason === "session_taken_over") return this.#stop("taken", said?.message ?? "");
    if (said?.reason === "capacity_reached") return this.#stop("full", said.message);
    if (code === TOO_LARGE) {
      const frame = this.pending;
      this.pending = null;
      this.dispatchEvent(new CustomEvent("refusal", { detail: { frame, data: said ?? { message: "This is larger than the server takes." } } }));
    } else if (said !== null && said.retryable !== true) {
      return this.#stop("refused", said.message);
    }
    this.#wait(opened, said?.message);
  }

  /** Short at first, then longer and longer, and never in step with other pages. */
  #pause() {
    const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** this.#failures);
    this.#failures += 1;
    return longest / 2 + (Math.random() * longest) / 2;
  }

  #wait(opened, why = "") {
    if (opened && !this.resumed && this.stands !== null) this.#wasOpen = true;
    const pause = this.#pause();
    this.#become("waiting", why);
    this.#timer = setTimeout(() => this.connect(), pause);
    if (!opened) this.#findOut();
  }

  /** A browser does not say why a handshake failed: a request may. */
  async #findOut() {
    try {
      await ask("metadata");
    } catch (error) {
      if (error instanceof Problem && [401, 403].includes(error.status)) this.#stop("refused", error.message);
      else if (this.state === "waiting") this.#become("waiting", error instanceof Unreachable || error instanceof Problem ? error.message : "");
    }
  }

  /** Give the socket up, so that a late answer on it is never read, and go on with another. */
  #lose() {
    const [opened, said] = [this.#opened, this.#said];
    this.#drop();
    this.#wait(opened, said?.message);
  }

  #stop(state, why) {
    this.#drop();
    clearTimeout(this.#timer);
    if (state === "lost") this.pending = null;
    this.#wasOpen = false;
    this.#keep();
    this.#become(state, why);
  }

  #drop() {
    const socket = this.#socket;
    this.#forget();
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #forget() {
    clearTimeout(this.#limit);
    clearTimeout(this.#watch);
    this.#socket = null;
    this.#asked = null;
  }

  #sayGoodbye() {
    const socket = this.#socket;
    return new Promise((resolve) => {
      socket.onmessage = null;
      socket.onclose = () => resolve();
      setTimeout(resolve, GOODBYE_TIMEOUT_MS);
      clearTimeout(this.#limit);
      socket.send('{"type":"close"}');
      this.#show("out", '{"type":"close"}', false);
    });
  }

  #within(ms) {
    clearTimeout(this.#limit);
    this.#limit = setTimeout(() => this.#lose(), ms);
  }

  #note(kind) {
    this.#remember({ kind, step: this.stands?.step_count ?? 0, at: Date.now() });
  }

  #remember(event) {
    this.events = [...this.events, event].slice(-KEPT_EVENTS);
  }

  #become(state, why = "") {
    this.state = state;
    this.why = why;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }

  #show(direction, text, again) {
    this.dispatchEvent(new CustomEvent("frame", { detail: { direction, text, again, at: Date.now() } }));
  }

  /** What a reload needs; the newest events first to go where the browser has no room. */
  #keep() {
    const { stands, done, last, total, totalSince, pending } = this;
    for (const events of [this.events, this.events.slice(-10), []]) {
      const small = events.map((event) => trimmed(event));
      if (kept.set(this.#name, { stands, done, last, total, totalSince, pending, events: small })) return;
    }
    kept.set(this.#name, { stands, done, total, totalSince, pending });
  }
}

function trimmed(value) {
  if (typeof value === "string") return cut(value, KEPT_TEXT);
  if (Array.isArray(value)) return value.slice(0, KEPT_TEXT).map(trimmed);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, trimmed(inner)]));
}
