// The recorded runs: choose a network and a condition, see its curves and where they met a zero.
"use strict";

{
  const WORDS = { chain: "derivative", injected: "constant", none: "s = 0" };
  const form = document.getElementById("explorer"), svg = form.querySelector("svg");
  const lists = ["network", "precision", "arithmetic", "kink", "s"].map((name) => [name, form.elements[name]]);
  const rules = [form.elements.chain, form.elements.injected];
  const LEFT = 52, RIGHT = 590, TOP = 24, BOTTOM = 280;
  const START = { network: /fully connected 200.*50 epochs/, precision: /bf16/, kink: /^exact$/, s: /^1$/ };

  const isBase = (run) => run.rule === "none";
  const fits = (run, upTo) => lists.slice(0, upTo).every(([name, list]) => String(run[name]) === list.value || (name === "s" && isBase(run)));
  const wide = (kink) => parseFloat(kink.replace(/[^0-9]*/, "")) || 0;
  const percent = (x) => `${(100 * x).toFixed(1)} %`;
  const small = (x) => (x === 0 ? "0" : x >= 0.01 && x < 1e4 ? String(Number(x.toPrecision(2))) : x.toExponential(0).replace(/e([-+])(\d+)/, (_, sign, n) => ` × 10${sign === "-" ? "⁻" : ""}${[...n].map((d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d]).join("")}`));

  // Offer in each list what the lists before it leave, and keep the choice where it still exists.
  function fill(from) {
    for (let i = from; i < lists.length; i++) {
      const [name, list] = lists[i];
      const left = [...new Set(RUNS.filter((run) => !isBase(run) && fits(run, i)).map((run) => String(run[name])))];
      if (name === "s") left.sort((a, b) => a - b);
      if (name === "kink") left.sort((a, b) => wide(a) - wide(b));
      const kept = left.includes(list.value) ? list.value : left.find((value) => START[name]?.test(value)) ?? left[0];
      list.replaceChildren(...left.map((value) => new Option(value.replace("-", name === "s" ? "−" : "-"), value)));
      list.value = kept;
    }
  }

  function scales(runs) {
    const last = Math.max(...runs.map((run) => run.x.at(-1))), first = Math.min(...runs.map((run) => run.x[0]));
    const ys = runs.flatMap((run) => run.y).filter((y) => y !== null);
    const x = (value) => LEFT + ((value - first) / Math.max(1, last - first)) * (RIGHT - LEFT);
    if (runs[0].measure === "test accuracy") {
      const low = Math.min(...ys), pad = Math.max(0.002, (Math.max(...ys) - low) * 0.08);
      const bounds = [low - pad, Math.max(...ys) + pad];
      const y = (value) => BOTTOM - ((value - bounds[0]) / (bounds[1] - bounds[0])) * (BOTTOM - TOP);
      const step = [0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001].find((size) => (bounds[1] - bounds[0]) / size >= 3) ?? 0.001;
      const ticks = [];
      for (let n = Math.ceil(bounds[0] / step); n * step <= bounds[1]; n++) ticks.push(n * step);
      return { x, y, first, last, ticks, label: percent, unit: "epoch" };
    }
    const above = ys.filter((value) => value > 0);
    const low = above.length ? Math.floor(Math.log10(Math.min(...above))) - 1 : -1;
    const high = above.length ? Math.ceil(Math.log10(Math.max(...above))) : 0;
    const y = (value) => BOTTOM - ((Math.max(low, value > 0 ? Math.log10(value) : low) - low) / Math.max(1, high - low)) * (BOTTOM - TOP);
    const every = Math.ceil((high - low) / 5);
    const ticks = [0, ...Array.from({ length: high - low }, (_, n) => low + 1 + n).filter((n) => (high - n) % every === 0).map((n) => 10 ** n)];
    return { x, y, first, last, ticks, label: small, unit: "step" };
  }

  function path(run, { x, y }) {
    let pen = "M";
    return run.x.map((at, i) => {
      if (run.y[i] === null) { pen = "M"; return ""; }
      const point = `${pen}${x(at).toFixed(1)} ${y(run.y[i]).toFixed(1)}`;
      pen = "L";
      return point;
    }).join("");
  }

  function mark(run, { x, y }) {
    const at = run.x.indexOf(run.event);
    if (at < 0 || run.y[at] === null) return "";
    return `<circle cx="${x(run.event).toFixed(1)}" cy="${y(run.y[at]).toFixed(1)}" r="4.5" class="${run.rule}"/>`;
  }

  function words(runs) {
    return ["none", "chain", "injected"].map((rule) => {
      const own = runs.filter((run) => run.rule === rule);
      if (!own.length) return "";
      const met = own.filter((run) => run.event !== null).length;
      const ends = own.map((run) => run.y.at(-1)).filter((y) => y !== null).sort((a, b) => a - b);
      const label = own[0].measure === "test accuracy" ? percent : small;
      const end = ends.length ? `at the end ${label(ends[0])}${ends.length > 1 ? ` to ${label(ends.at(-1))}` : ""}` : "no result";
      const without = ends.length && ends.length < own.length ? `, ${own.length - ends.length} without a result` : "";
      return `${WORDS[rule]}: ${own.length} run${own.length > 1 ? "s" : ""}, ${met} of which met a kink; ${end}${without}.`;
    }).filter(Boolean).join(" ");
  }

  function draw() {
    const chosen = new Set(["none", ...rules.filter((box) => box.checked).map((box) => box.name)]);
    const runs = RUNS.filter((run) => fits(run, lists.length) && chosen.has(run.rule));
    const status = document.getElementById("explorer-words");
    if (!runs.some((run) => !isBase(run))) {
      svg.innerHTML = "";
      status.textContent = "No run of this condition under the chosen rule is recorded.";
      return;
    }
    const axes = scales(runs);
    let drawn = axes.ticks.map((tick) => `<line x1="${LEFT}" x2="${RIGHT}" y1="${axes.y(tick)}" y2="${axes.y(tick)}" class="grid"/><text x="${LEFT - 6}" y="${axes.y(tick) + 4}" text-anchor="end" class="tick">${axes.label(tick)}</text>`).join("");
    drawn += `<text x="${LEFT}" y="300" class="tick">${axes.first}</text><text x="${RIGHT}" y="300" text-anchor="end" class="tick">${axes.unit} ${axes.last}</text><text x="4" y="12" class="tick">${runs[0].measure}</text>`;
    const ordered = [...runs].sort((a, b) => "none chain injected".indexOf(a.rule) - "none chain injected".indexOf(b.rule));
    drawn += ordered.map((run) => `<path d="${path(run, axes)}" class="${run.rule}"/>`).join("") + ordered.map((run) => mark(run, axes)).join("");
    svg.innerHTML = drawn;
    status.textContent = words(runs);
  }

  lists.forEach(([, list], i) => list.addEventListener("change", () => { fill(i + 1); draw(); }));
  for (const box of rules) box.addEventListener("change", draw);
  fill(0);
  draw();
}
