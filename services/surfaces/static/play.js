// The play view: an episode in a session of this page's own, and everything that becomes of it.

import { drawThread } from "./charts.js";
import { announce, byId, copy, cut, h, notice, number, prose, randomHex, say, shortened } from "./dom.js";
import { Invalid, schemaForm } from "./form.js";
import { Frames } from "./frames.js";
import { Problem, ask, linkTo } from "./net.js";
import { Session } from "./session.js";

const SHOWN_TEXT = 160;
/** Text as long as this may need scrolling, and so be in reach of the keyboard. */
const SCROLLED_TEXT = 300;
const MAX_SEED = 2n ** 63n - 1n;
const NAME = /^[A-Za-z0-9._-]{1,128}$/;
const BACK_SHOWN_MS = 8_000;
/** Who presses Enter, or the button, once more within this has not meant another step. */
const SLIP_MS = 700;
const KEYLESS = "An API key is needed";
const ASTRAY = "The address names no session";
const STATES = {
  new: "No session yet",
  connecting: "Connecting",
  open: "Connected",
  waiting: "Reconnecting",
  taken: "Taken by another page",
  lost: "Session lost",
  full: "Pool full",
  refused: "Refused",
  ended: "Ended",
};

/** The view; `goTo(sessionId or null)` puts the session into the page's address. */
export class Play {
  #session = null;
  #frames = new Frames();
  #form = null;
  #goTo;
  #confirm;
  #backUntil = 0;
  #back = "";
  #troubled = false;
  #keyless = false;
  #forgotten = null;
  #triedAt = -Infinity;
  #touched = false;

  constructor({ goTo, confirm }) {
    this.#goTo = goTo;
    this.#confirm = confirm;
    byId("start").addEventListener("submit", (event) => this.#start(event));
    byId("act").addEventListener("submit", (event) => this.#step(event));
    byId("act").addEventListener("keydown", (event) => this.#keyed(event));
    byId("act").addEventListener("input", () => (this.#touched = true));
    byId("give-up").addEventListener("click", () => this.#session.giveUp());
    byId("copy-link").addEventListener("click", (event) => copy(linkTo(this.#session.id), event.currentTarget));
    byId("new-session").addEventListener("click", () => this.#renew());
    byId("end-session").addEventListener("click", () => this.#end());
    addEventListener("online", () => this.#session?.hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.#session?.hurry());
    addEventListener("pageshow", (event) => event.persisted && this.#session?.hurry());
    this.#draw();
    this.#describe();
  }

  /** Go on with the session in the address, if it is another one. */
  open(sessionId) {
    const isName = sessionId === null || NAME.test(sessionId);
    if (isName && this.#says(ASTRAY)) byId("play-notice").hidden = true;
    if (sessionId === (this.#session?.id ?? null)) return;
    this.#session?.leave();
    this.#frames.clear();
    this.#session = null;
    if (!this.#says(KEYLESS)) byId("play-notice").hidden = true; // it was of the session before
    this.#complain("");
    if (sessionId !== null && isName) {
      this.#use(new Session(sessionId));
      this.#session.connect();
    } else {
      byId("start-box").open = true;
    }
    if (!isName) {
      this.#tell("bad", ASTRAY, "A session id is 1 to 128 of A-Z a-z 0-9 . _ - and nothing else.");
    }
    this.#draw();
  }

  async #describe() {
    for (let pause = 500; ; pause = Math.min(2 * pause, 8_000)) {
      try {
        const [about, schema] = await Promise.all([ask("metadata"), ask("schema")]);
        say(byId("play-title"), about.name.replaceAll("_", " "));
        say(byId("game-about"), about.description ?? "");
        this.#form = schemaForm(schema.action, "act");
        byId("act-fields").replaceChildren(this.#form.element);
        if (this.#says(KEYLESS)) byId("play-notice").hidden = true;
        if (this.#keyless && this.#session?.state === "refused") this.#session.again();
        this.#keyless = false;
        this.#draw();
        return;
      } catch (error) {
        byId("game-about").replaceChildren(...prose(error.message));
        if (error instanceof Problem && error.status === 401) {
          this.#keyless = true;
          this.#wantKey();
          return;
        }
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  }

  #wantKey() {
    this.#tell("warn", KEYLESS, "This server plays with nobody who has none.", ["Enter key", () => this.#describe()]);
  }

  #use(session) {
    this.#session = session;
    const ours = (act) => (event) => session === this.#session && act(event.detail);
    session.addEventListener("change", ours(() => this.#draw()));
    session.addEventListener("frame", ours((frame) => this.#frames.add(frame)));
    session.addEventListener("answer", ours((event) => this.#answered(event)));
    session.addEventListener("refusal", ours((refusal) => this.#refused(refusal)));
    session.addEventListener("back", ours((back) => this.#cameBack(back)));
  }

  #start(event) {
    event.preventDefault();
    const asked = this.#readStart();
    if (asked === null) return;
    if (this.#session === null || ["lost", "ended"].includes(this.#session.state)) {
      this.#session?.leave();
      this.#frames.clear();
      this.#use(new Session(asked.name || randomHex(), { fresh: true }));
      this.#goTo(this.#session.id);
    }
    byId("play-notice").hidden = true;
    this.#session.reset(asked.seed, asked.episodeId, asked.options);
  }

  /** What the form says; null where it cannot be read, with the reason at the field. */
  #readStart() {
    const complain = (name, text) => {
      const complaint = byId(`${name}-complaint`);
      complaint.textContent = text;
      complaint.hidden = text === "";
      byId(INPUTS[name]).setAttribute("aria-invalid", text === "" ? "false" : "true");
      if (text !== "") {
        byId(INPUTS[name]).closest("details").open = true;
        byId(INPUTS[name]).focus();
      }
      return text === "";
    };
    const [seed, options, name] = ["seed", "options", "session-name"].map((id) => byId(id).value.trim());
    let parsed = {};
    const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
    try {
      parsed = options === "" ? {} : JSON.parse(options);
    } catch {
      parsed = null;
    }
    const seedWrong = seed !== "" && (!/^\d+$/.test(seed) || BigInt(seed) > MAX_SEED);
    const inexact = seed !== "" && !seedWrong && BigInt(seed) > BigInt(Number.MAX_SAFE_INTEGER);
    const right = [
      complain("options", isObject(parsed) ? "" : "This is no JSON object."),
      complain("session", name === "" || NAME.test(name) ? "" : "1 to 128 of A to Z, a to z, 0 to 9 and . _ - and nothing else."),
      complain("seed", seedWrong ? "A seed is a whole number from 0 to 2^63 - 1." : inexact ? "A browser sends whole numbers up to 2^53 - 1 exactly." : ""),
    ];
    if (right.includes(false)) return null;
    return { seed: seed === "" ? null : Number(seed), episodeId: byId("episode-id").value.trim(), options: parsed, name };
  }

  #step(event) {
    event.preventDefault();
    const isSlip = this.#isSlip();
    if (this.#session === null || this.#session.pending !== null || !this.#canStep || isSlip) return;
    this.#complain("");
    try {
      this.#session.step(this.#form.read());
      this.#touched = false;
    } catch (error) {
      if (!(error instanceof Invalid)) throw error;
      this.#triedAt = -Infinity;
      announce(error.message);
    }
  }

  /**
   * Whether a step is asked for once more than it was meant: its answer has emptied the text that was sent, and with
   * Enter still going down the next step would say nothing. After a pause, nothing may be said too.
   */
  #isSlip() {
    const now = performance.now();
    const quick = now - this.#triedAt < SLIP_MS;
    this.#triedAt = now;
    return quick && !this.#touched && this.#form !== null && this.#form.empties;
  }

  #keyed(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.target.tagName !== "TEXTAREA") return;
    if (event.target.classList.contains("mono")) return; // JSON has lines
    event.preventDefault();
    if (!event.repeat) byId("act").requestSubmit();
  }

  #answered(event) {
    const { kind, step, data } = event;
    if (kind === "reset") {
      byId("start-box").open = false;
      for (const id of ["episode-id", "session-name"]) byId(id).value = "";
    } else {
      this.#done();
    }
    byId("play-notice").hidden = true;
    const reward = typeof data.reward === "number" ? `, reward ${number.decimal(data.reward)}` : "";
    announce(kind === "reset" ? "Episode started" : `Step ${step}${reward}${data.done ? ", the episode is over" : ""}`);
    queueMicrotask(() => this.#focusNext()); // once the fields are there again
  }

  /** What was sent is done; what was written meanwhile stays. */
  #done() {
    if (!this.#touched) this.#form?.next();
  }

  /** To the next step, unless somebody went elsewhere in the page meanwhile. */
  #focusNext() {
    const focused = document.activeElement;
    if (focused === document.body || focused.closest("#start-box, #act-box") !== null) this.#form?.focus();
  }

  #refused({ frame, data }) {
    this.#triedAt = -Infinity;
    if (data.reason === "session_moved") {
      const where = data.episode_id === null ? "no episode runs in it" : `it stands at step ${data.step_count}`;
      this.#tell("warn", "The session moved", `Somebody else stepped it: ${where} now, and nothing was done. What you send next goes on from there.`);
      return;
    }
    if (data.reason === "answer_forgotten") {
      if (frame.type === "step") this.#done();
      this.#forgotten = data.message;
      this.#tell("warn", "This was done before", data.message);
      return;
    }
    if (frame?.type === "step") {
      const rest = this.#form.show(data.errors ?? []);
      const text = rest.map((error) => `${error.loc.join(".")}: ${error.msg}`).join("; ");
      this.#complain(data.errors?.length > 0 && rest.length === 0 ? "" : text || data.message);
      announce(data.message);
      this.#form.element.querySelector("[aria-invalid=true]")?.focus();
    } else {
      const why = (data.errors ?? []).map((error) => `${error.loc.join(".")}: ${error.msg}`).join("; ");
      this.#tell("bad", "The episode did not start", why || data.message);
    }
  }

  /** On a new socket, or in a reloaded page, the episode was found where it was left: said, and shown for a while. */
  #cameBack({ moved, reloaded }) {
    const step = this.#session.stands.step_count;
    if (this.#session.running) byId("start-box").open = false;
    const where = `It stands at step ${step} now. What you send next goes on from there.`;
    if (moved && this.#forgotten !== null) this.#tell("warn", "This was done before", `${this.#forgotten} ${where}`);
    else if (moved) this.#tell("warn", "The session moved", where);
    this.#forgotten = null;
    this.#back = reloaded ? "Resumed" : "Reconnected";
    this.#backUntil = Date.now() + BACK_SHOWN_MS;
    setTimeout(() => this.#draw(), BACK_SHOWN_MS + 50);
  }

  #renew() {
    this.#session?.leave();
    this.#session = null;
    this.#goTo(null);
    this.#frames.clear();
    byId("play-notice").hidden = true;
    byId("start-box").open = true;
    this.#draw();
    byId("seed").focus();
  }

  async #end() {
    const session = this.#session;
    const sure = await this.#confirm({
      title: "End this session?",
      text: "Its episode cannot go on afterwards, here or anywhere else.",
      yes: "End session",
    });
    if (!sure || session !== this.#session) return;
    try {
      await session.end();
    } catch (error) {
      this.#tell("bad", "The session was not ended", error.message);
      return;
    }
    this.#goTo(null);
    announce("Session ended");
    byId("start-box").open = true;
    this.#draw();
    byId("seed").focus();
  }

  #complain(text) {
    const complaint = byId("act-complaint");
    complaint.replaceChildren(...prose(text));
    complaint.hidden = text === "";
  }

  #tell(kind, title, text, ...buttons) {
    this.#troubled = false;
    const box = byId("play-notice");
    const said = `${kind}\n${title}\n${text}\n${buttons.map(([label]) => label)}`;
    if (box.hidden || box.dataset.said !== said) {
      Object.assign(box.dataset, { said, title });
      box.className = `notice ${kind}`;
      box.replaceChildren(...notice(title, text, buttons));
    }
    box.hidden = false;
  }

  #says(title) {
    return !byId("play-notice").hidden && byId("play-notice").dataset.title === title;
  }

  get #canStep() {
    const session = this.#session;
    return this.#form !== null && session !== null && session.running && !session.done && !["lost", "taken", "ended", "refused"].includes(session.state);
  }

  #draw() {
    const session = this.#session;
    const state = session?.state ?? "new";
    this.#drawConnection(session, state);
    this.#drawStats(session);
    this.#drawForms(session, state);
    this.#drawSeen(session);
    this.#drawHistory(session?.events ?? []);
    this.#drawTrouble(session, state);
  }

  #drawConnection(session, state) {
    const pill = byId("connection");
    const back = Date.now() < this.#backUntil && state === "open";
    const trying = state === "open" && session.pending !== null && session.why !== "";
    pill.dataset.state = trying ? "waiting" : back ? "back" : state;
    say(pill, trying ? "Trying again" : back ? `${this.#back}, step ${session.stands?.step_count ?? 0}` : STATES[state]);
    const id = byId("session-id");
    say(id, session === null ? "–" : shortened(session.id));
    id.title = session?.id ?? "";
    const live = session !== null && !["ended", "lost"].includes(state);
    byId("copy-link").disabled = !live;
    byId("end-session").disabled = !live;
    byId("new-session").disabled = session === null;
  }

  #drawStats(session) {
    const stands = session?.stands ?? null;
    say(byId("stat-step"), number.whole(session?.running ? stands.step_count : undefined));
    say(byId("stat-reward"), number.decimal(session?.last?.reward));
    say(byId("stat-total"), number.decimal(session?.running ? session.total : undefined));
    say(byId("total-since"), session?.totalSince > 0 ? `since step ${session.totalSince}` : "");
    const episode = byId("stat-episode");
    say(episode, stands?.episode_id ? cut(stands.episode_id, 40) : "–");
    episode.title = stands?.episode_id ?? "";
    const events = session?.events ?? [];
    drawThread(byId("thread"), events);
    const steps = events.filter((event) => event.kind === "step").length;
    const knots = events.filter((event) => event.kind === "reconnected").length;
    byId("thread").setAttribute("aria-label", `${steps} steps here${knots > 0 ? `, reconnected ${knots} times` : ""}`);
    const box = byId("thread").parentElement;
    box.scrollLeft = box.scrollWidth;
  }

  #drawForms(session, state) {
    const stopped = ["lost", "ended"].includes(state);
    const running = session?.running === true && !stopped;
    say(byId("start-title"), running ? "New episode in this session" : "Start an episode");
    byId("session-name-field").hidden = session !== null && !stopped;
    const busy = session?.pending ?? null;
    byId("start-button").disabled = busy !== null || ["taken", "refused"].includes(state) || (session !== null && session.stands === null && !stopped);
    say(byId("start-button"), busy?.type === "reset" ? "Starting" : "Start episode");
    byId("act-box").hidden = !running || this.#form === null;
    byId("act-button").disabled = !this.#canStep || busy !== null;
    say(byId("act-button"), busy?.type === "step" ? "Sending" : "Send step");
    const stuck = busy !== null && (state === "waiting" || session.why !== "");
    byId("give-up").hidden = !stuck;
    say(byId("act-title"), session?.done ? "The episode is over" : "Next step");
    say(
      byId("act-hint"),
      session?.done ? "Start a new episode to go on." : stuck ? "It is sent again until it is answered, and happens once." : "Enter sends, Shift + Enter is a new line",
    );
    if (session?.done) byId("start-box").open = true;
  }

  #drawSeen(session) {
    const last = session?.last ?? null;
    byId("seen-box").hidden = last === null;
    if (last === null || byId("seen").of === last) return;
    byId("seen").of = last;
    const { metadata, ...fields } = last.observation ?? {};
    const rows = [...Object.entries(fields), ["reward", last.reward], ["done", last.done]];
    if (metadata && Object.keys(metadata).length > 0) rows.push(["metadata", metadata]);
    byId("seen").replaceChildren(
      ...rows.map(([name, value]) => h("div", {}, h("dt", {}, name.replaceAll("_", " ")), h("dd", { class: typeof value === "string" ? "text" : "mono", tabindex: shown(value).length > SCROLLED_TEXT ? "0" : null }, shown(value)))),
    );
  }

  #drawHistory(events) {
    const body = byId("history");
    byId("history-box").hidden = events.length === 0;
    if (body.of === events) return;
    body.of = events;
    body.replaceChildren(...events.toReversed().map(row));
  }

  /** What only the person at the page can mend. */
  #drawTrouble(session, state) {
    const renew = ["Start anew", () => this.#renew()];
    const trouble = (kind, title, text, ...buttons) => {
      this.#tell(kind, title, text, ...buttons);
      this.#troubled = true;
    };
    if (state === "lost") {
      trouble("bad", "This session is lost", "It ended or expired, so its episode cannot go on. No other episode was put in its place.", renew);
    } else if (state === "taken") {
      trouble("warn", "Another page has this session", "The newest socket owns a session. Nothing was lost: the episode goes on there.", ["Take it back", () => session.again()], renew);
    } else if (state === "full") {
      trouble("bad", "The pool is full", session.why, ["Try again", () => session.again()], renew);
    } else if (state === "refused" && this.#keyless) {
      this.#wantKey();
    } else if (state === "refused") {
      trouble("bad", "The server refused this session", session.why, ["Try again", () => session.again()], renew);
    } else if (session?.failing) {
      // Not at once: most of the time the next attempt finds another worker before anybody could read this.
      trouble("warn", "Connection lost", `${session.why === "" ? "" : `It is said: “${session.why}” `}This page tries again by itself, and the episode goes on where it was.`, ["Try now", () => session.hurry()]);
    } else if (this.#troubled && ["open", "new", "ended"].includes(state)) {
      byId("play-notice").hidden = true;
    }
  }
}

const INPUTS = { seed: "seed", options: "options", session: "session-name" };

function row(event) {
  const { kind, step, sent, data, ms } = event;
  const at = h("td", { class: "num step" }, number.whole(step));
  if (kind !== "reset" && kind !== "step") return h("tr", { class: `mark ${kind}` }, at, h("td", { colspan: "3" }, MARKS[kind]), h("td", { class: "ms" }));
  return h(
    "tr",
    { class: kind === "reset" ? "mark" : null },
    at,
    h("td", { class: "text" }, kind === "reset" ? "reset" : summary(sent)),
    h("td", { class: "text" }, summary(data?.observation)),
    h("td", { class: "num reward" }, number.decimal(data?.reward)),
    h("td", { class: "num ms" }, number.ms(ms)),
  );
}

const MARKS = {
  reconnected: "reconnected: same session, same episode",
  resumed: "page loaded again: same session, same episode",
  moved: "the session was moved by somebody else",
};

/** An action or observation in a table's cell: the text of a lone field, else JSON; metadata is left out. */
function summary(value) {
  const { metadata: _, ...fields } = value ?? {};
  const texts = Object.values(fields).filter((one) => typeof one === "string");
  if (texts.length === 1) return texts[0] === "" ? "(empty)" : cut(texts[0], SHOWN_TEXT);
  return cut(JSON.stringify(fields), SHOWN_TEXT);
}

function shown(value) {
  if (typeof value === "string") return value === "" ? "(empty)" : value;
  return JSON.stringify(value) ?? "–";
}
