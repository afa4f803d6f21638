// The pool view: the whole pool's numbers, asked for while somebody looks, and its sessions.

import { drawLines } from "./charts.js";
import { byId, clock, h, notice, number, say } from "./dom.js";
import { Problem, ask } from "./net.js";
import { Sessions } from "./sessions.js";

const EVERY_MS = 2_000;
const KEPT_S = 300;
/** Without an answer for so long, the line has a gap. */
const GAP_S = 8;
/** What is known through the store only. */
const FIGURES = ["pool-tiles", "workers-box"];
const NODE_STATES = { ready: "good", up: "good", draining: "warn", silent: "bad", down: "bad" };

/** The view; `show()` and `hide()` start and stop it. */
export class Pool {
  #samples = [];
  #sessions;
  #timer = null;
  #stop = null;
  #shown = false;
  #goodAt = null;
  #askedAt = null;

  constructor({ confirm, play }) {
    this.#sessions = new Sessions({ confirm, play });
    document.addEventListener("visibilitychange", () => this.#shown && (document.hidden ? this.#pause() : this.#poll()));
  }

  show() {
    if (this.#shown) return;
    this.#shown = true;
    this.#askedAt = new Date();
    this.#poll();
    this.#sessions.refresh();
  }

  hide() {
    this.#shown = false;
    this.#pause();
  }

  #pause() {
    clearTimeout(this.#timer);
    this.#stop?.abort();
    this.#stop = null;
  }

  async #poll() {
    this.#pause();
    const stop = new AbortController();
    this.#stop = stop;
    try {
      const pool = await ask("pool", { signal: stop.signal });
      this.#reveal();
      if (pool.sessions.total === null) this.#withoutStore(pool);
      else this.#live(pool);
    } catch (error) {
      if (stop.signal.aborted) return;
      if (this.#failed(error)) return;
    }
    this.#timer = setTimeout(() => this.#poll(), EVERY_MS);
  }

  #live(pool) {
    this.#goodAt = new Date();
    this.#take(pool);
    this.#state("open", "Live");
    byId("pool-notice").hidden = true;
    this.#mark([]);
  }

  /** The worker that was asked answers, and its store does not: it knows neither the sessions nor the other workers. */
  #withoutStore(pool) {
    const worker = pool.workers?.[0]?.worker_id;
    this.#state("waiting", "Store away");
    this.#tell("The session store cannot be reached", `${worker === undefined ? "A worker" : `Worker ${worker}`} answers, and its store gives no answer. ${this.#since()}`);
    if (this.#goodAt === null) this.#take(pool);
    else this.#redis(pool.redis ?? [], pool.store);
    this.#mark(this.#goodAt === null ? [] : FIGURES);
  }

  /** Since when the figures stand still; the moment alone, as what counts on would be read out each time. */
  #since() {
    const asking = "Asking again by itself.";
    if (this.#goodAt === null) return `Asked since ${clock(this.#askedAt)}, and never answered. ${asking}`;
    return `The figures below are as of ${clock(this.#goodAt)}. ${asking}`;
  }

  /** Show what is not as it is now as old, and the rest as it is. */
  #mark(old) {
    for (const id of FIGURES.concat("redis-box")) byId(id).classList.toggle("old", old.includes(id));
  }

  /** The pool again, where it was not shown. */
  #reveal() {
    byId("pool-live").hidden = false;
    if (!byId("sessions-box").hidden) return;
    byId("sessions-box").hidden = false;
    this.#sessions.refresh();
  }

  /** Say what is wrong; whether asking again cannot help. */
  #failed(error) {
    const status = error instanceof Problem ? error.status : null;
    if (status === 401) {
      this.#tell("An API key is needed", "Without it this server shows its pool to nobody.", ["Enter key", () => this.#poll()]);
    } else if (status === 403) {
      this.#tell("For operators only", error.message, ["Try again", () => this.#poll()]);
    } else if (status === 404) {
      this.#tell("This server has no pool view", "It answers no such request.");
    } else {
      this.#state("waiting", "No answer");
      const code = status === null ? "" : ` (${[status, error.code].filter(Boolean).join(" ")})`;
      this.#tell("The pool does not answer", `${error.message}${code} ${this.#since()}`);
      if (this.#goodAt === null) byId("pool-live").hidden = true;
      else this.#mark([...FIGURES, "redis-box"]);
      return false;
    }
    this.#state("refused", "Not shown");
    byId("pool-live").hidden = true;
    byId("sessions-box").hidden = status !== 404;
    return true;
  }

  #tell(title, text, ...buttons) {
    const box = byId("pool-notice");
    const said = `${title}\n${text}`;
    if (box.hidden || box.dataset.said !== said) {
      box.dataset.said = said;
      box.className = "notice warn";
      box.replaceChildren(...notice(title, text, buttons));
    }
    box.hidden = false;
  }

  #state(state, text) {
    byId("pool-state").dataset.state = state;
    say(byId("pool-state"), text);
  }

  #take(pool) {
    const errors = Object.values(pool.errors ?? {}).reduce((sum, count) => sum + count, 0);
    const previous = this.#samples.at(-1);
    // Counted since the living workers started: with a worker that left, the sum falls, and says nothing of the time.
    const rate = previous === undefined || errors < previous.errors || pool.at <= previous.at ? null : (errors - previous.errors) / (pool.at - previous.at);
    if (previous !== undefined && pool.at < previous.at) this.#samples = []; // another worker's clock, well behind
    this.#samples.push({ at: pool.at, pool, errors, errorRate: rate });
    this.#samples = this.#samples.filter((sample) => sample.at > pool.at - KEPT_S - EVERY_MS / 1000);
    this.#figures(pool, errors);
    this.#charts(pool.at);
    this.#workers(pool.workers ?? [], pool.at);
    this.#redis(pool.redis ?? [], pool.store);
  }

  #figures({ sessions, steps, requests, latency_ms: latency, errors }, sum) {
    const texts = {
      "pool-total": number.whole(sessions.total),
      "pool-max": `of ${number.whole(sessions.max)}`,
      "pool-attached": number.whole(sessions.attached),
      "pool-detached": number.whole(sessions.detached),
      "pool-anonymous": number.whole(sessions.anonymous),
      "pool-rate": number.rate(steps.per_s),
      "pool-steps": number.whole(steps.total),
      "pool-requests": number.rate(requests?.per_s),
      "pool-p50": number.ms(latency?.p50),
      "pool-p90": number.ms(latency?.p90),
      "pool-p99": number.ms(latency?.p99),
      "pool-p999": number.ms(latency?.["p99.9"]),
      "pool-errors": number.whole(sum),
    };
    for (const [id, text] of Object.entries(texts)) say(byId(id), text);
    const capacity = byId("pool-capacity");
    capacity.value = sessions.max > 0 ? sessions.total / sessions.max : 0;
    capacity.classList.toggle("nearly", sessions.total > 0.9 * sessions.max);
    const codes = Object.entries(errors ?? {}).filter(([, count]) => count > 0).toSorted(([, one], [, other]) => other - one);
    byId("pool-codes").replaceChildren(
      ...(codes.length > 0 ? codes.slice(0, 4) : [["none", 0]]).map(([code, count]) => h("div", {}, h("dt", {}, code.replaceAll("_", " ").toLowerCase()), h("dd", {}, number.whole(count)))),
    );
  }

  #charts(until) {
    const over = { since: until - KEPT_S, until };
    const points = (pick) => {
      const line = [];
      for (const [index, sample] of this.#samples.entries()) {
        if (index > 0 && sample.at - this.#samples[index - 1].at > GAP_S) line.push([sample.at, null]);
        line.push([sample.at, pick(sample) ?? null]);
      }
      return line;
    };
    const draw = (name, series, unit) => {
      const top = drawLines(byId(`chart-${name}`), series, over);
      say(byId(`scale-${name}`), `0 to ${number.decimal(top)}${unit}, the last five minutes`);
    };
    draw("sessions", [
      { name: "detached", points: points(({ pool }) => pool.sessions.detached), filled: true },
      { name: "attached", points: points(({ pool }) => pool.sessions.attached) },
      { name: "anonymous", points: points(({ pool }) => pool.sessions.anonymous) },
    ], "");
    draw("steps", [{ name: "total", points: points(({ pool }) => pool.steps.per_s), filled: true }], " a second");
    draw("latency", [
      { name: "total", points: points(({ pool }) => pool.latency_ms?.p50), filled: true },
      { name: "p90", points: points(({ pool }) => pool.latency_ms?.p90) },
      { name: "p99", points: points(({ pool }) => pool.latency_ms?.p99) },
    ], " ms");
    draw("errors", [{ name: "bad", points: points(({ errorRate }) => errorRate), filled: true }], " a second");
  }

  #workers(workers, now) {
    const ready = workers.filter(({ state }) => state === "ready").length;
    say(byId("workers-count"), ready === workers.length ? String(ready) : `${ready} of ${workers.length} ready`);
    byId("workers").replaceChildren(
      ...workers.map((worker) =>
        h(
          "tr",
          { class: worker.state === "silent" ? "dim" : null },
          h("th", { scope: "row" }, h("code", {}, worker.worker_id), h("span", { class: "sub" }, `${worker.host} · ${worker.pid}`)),
          h("td", {}, badge(worker.state), worker.state === "silent" && h("span", { class: "sub" }, `for ${number.span(worker.seen_s)}`)),
          num(number.whole(worker.attached)),
          num(number.rate(worker.steps_per_s)),
          num(number.ms(worker.latency_ms?.p50)),
          num(number.ms(worker.latency_ms?.p99)),
          num(number.ms(worker.redis_round_trip_ms?.p99)),
          num(typeof worker.cpu === "number" ? `${number.whole(worker.cpu * 100)} %` : "–"),
          num(number.bytes(worker.resident_bytes)),
          num(number.span(now - worker.started_at)),
          h("td", {}, worker.version),
        ),
      ),
    );
  }

  #redis(nodes, store) {
    byId("redis-none").hidden = store !== "memory";
    byId("redis-box").hidden = store === "memory";
    byId("redis").replaceChildren(
      ...nodes.map((node) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, h("code", {}, node.node)),
          h("td", {}, node.role),
          h("td", {}, badge(node.state)),
          num(number.bytes(node.used_memory_bytes), node.max_memory_bytes > 0 ? `of ${number.bytes(node.max_memory_bytes)}` : null),
          num(number.whole(node.clients)),
          num(number.rate(node.commands_per_s)),
          h("td", {}, node.aof === true ? `each ${{ always: "write", everysec: "second", no: "now and then" }[node.fsync] ?? node.fsync}` : node.aof === false ? "no" : "–"),
          h("td", {}, node.version ?? "–"),
        ),
      ),
    );
  }
}

function num(text, below = null) {
  return h("td", { class: "num" }, text, below !== null && h("span", { class: "sub" }, below));
}

function badge(state) {
  return h("span", { class: `badge ${NODE_STATES[state] ?? ""}` }, state);
}
