// Pictures drawn as SVG: the thread of an episode, and lines over the last minutes.

import { s } from "./dom.js";

const BEADS = 48;
const BEAD_GAP = 20;
const BOX_PADDING = 40;
const LINE_WIDTH = 240;
const LINE_HEIGHT = 44;

/**
 * An episode as a thread with a bead for each step, larger for a larger reward. Where the page lost its socket and
 * found the session again, the thread is knotted: it did not break.
 */
export function drawThread(svg, events) {
  const shown = events.slice(-BEADS);
  const rewards = shown.map((event) => Math.abs(event.data?.reward ?? 0));
  const most = Math.max(...rewards, 0);
  const width = Math.max((shown.length + 1) * BEAD_GAP, svg.parentElement.clientWidth - BOX_PADDING);
  const y = (index) => 22 + 5 * Math.sin(index / 2.2);
  const x = (index) => BEAD_GAP * (index + 0.75);
  const path = shown.map((_, index) => `${index === 0 ? "M" : "L"}${x(index)} ${y(index).toFixed(1)}`).join("");
  svg.setAttribute("viewBox", `0 0 ${width} 44`);
  svg.setAttribute("width", width);
  svg.replaceChildren(
    s("path", { class: "strand", d: path + (shown.length > 0 ? `L${x(shown.length)} 22` : "M8 22") + `H${width - 8}` }),
    ...shown.map((event, index) => bead(event, x(index), y(index), most > 0 ? rewards[index] / most : 0)),
  );
}

function bead(event, x, y, size) {
  if (event.kind === "reset") return s("circle", { class: "bead start", cx: x, cy: y, r: 5 }, s("title", {}, "Episode started"));
  if (event.kind === "step") {
    const label = `Step ${event.step}${typeof event.data?.reward === "number" ? `, reward ${event.data.reward}` : ""}`;
    return s("circle", { class: event.data?.done ? "bead done" : "bead", cx: x, cy: y, r: (3 + 4 * Math.sqrt(size)).toFixed(1) }, s("title", {}, label));
  }
  const knot = `M${x - 4} ${y - 4}L${x + 4} ${y + 4}M${x - 4} ${y + 4}L${x + 4} ${y - 4}`;
  return s("path", { class: `knot ${event.kind}`, d: knot }, s("title", {}, `${event.kind} at step ${event.step}`));
}

/**
 * Lines over time. `points` are `[seconds, value or null]` for each series, oldest first; a null is a gap. All series
 * share one scale that begins at zero; its top is given back.
 */
export function drawLines(svg, series, { since, until }) {
  const top = niceAbove(Math.max(0, ...series.flatMap(({ points }) => points.map(([, value]) => value ?? 0))));
  const x = (at) => (((at - since) / (until - since)) * LINE_WIDTH).toFixed(1);
  const y = (value) => (LINE_HEIGHT - 2 - (value / top) * (LINE_HEIGHT - 5)).toFixed(1);
  svg.setAttribute("viewBox", `0 0 ${LINE_WIDTH} ${LINE_HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.replaceChildren(
    s("path", { class: "axis", d: `M0 ${LINE_HEIGHT - 2}H${LINE_WIDTH}` }),
    ...series.flatMap(({ points, name, filled = false }) => {
      const runs = runsOf(points.filter(([at]) => at >= since));
      return [
        filled &&
          s("path", {
            class: `area ${name}`,
            d: runs.map((run) => `M${x(run[0][0])} ${LINE_HEIGHT - 2}${run.map(([at, value]) => `L${x(at)} ${y(value)}`).join("")}L${x(run.at(-1)[0])} ${LINE_HEIGHT - 2}Z`).join(""),
          }),
        s("path", { class: `line ${name}`, d: runs.map((run) => run.map(([at, value], index) => `${index === 0 ? "M" : "L"}${x(at)} ${y(value)}`).join("")).join("") }),
      ].filter(Boolean);
    }),
  );
  return top;
}

/** Stretches of points without a gap; one alone is drawn as a short dash. */
function runsOf(points) {
  const runs = [];
  let run = [];
  for (const point of points) {
    if (point[1] === null) {
      if (run.length > 0) runs.push(run);
      run = [];
    } else run.push(point);
  }
  if (run.length > 0) runs.push(run);
  return runs.map((one) => (one.length > 1 ? one : [one[0], [one[0][0] + 0.5, one[0][1]]]));
}

/** The next of 1, 2, 5, 10, 20 … */
function niceAbove(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}
