// The rule at the kink: s and the upstream gradient, and what one training step makes of them.
"use strict";

{
  const RATE = 0.01; // learning rate of the step
  const S = [-1, 2], PASSED = [-1, 2], POWERS = [-10, 0]; // axes: s, gradient, log10 of a step
  const figure = document.getElementById("rule-figure");
  const [lines, steps] = figure.querySelectorAll("svg");
  const s = document.getElementById("rule-s"), u = document.getElementById("rule-u");

  const plain = (x) => {
    if (x === 0) return "0";
    const size = Math.abs(x);
    const digits = Math.max(0, 2 - Math.floor(Math.log10(size) + 1e-9));
    const text = size >= 1e-6 ? size.toFixed(Math.min(digits, 8)).replace(/\.?0+$/, "") : size.toExponential(1);
    return (x < 0 ? "−" : "") + text.replace(/e-(\d+)/, (_, n) => ` × 10⁻${[...n].map((d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d]).join("")}`);
  };
  const scale = ([a, b], [from, to]) => (x) => from + ((x - a) / (b - a)) * (to - from);
  const line = (x1, y1, x2, y2, kind) => `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" class="${kind}"/>`;
  const text = (x, y, words, kind = "", anchor = "start") => `<text x="${x}" y="${y}" class="${kind}" text-anchor="${anchor}">${words}</text>`;

  function drawLines(value, upstream) {
    const x = scale(S, [36, 300]), y = scale(PASSED, [230, 20]);
    const derivative = (at) => y(at * upstream);
    let svg = line(x(S[0]), y(0), x(S[1]), y(0), "axis") + line(x(0), y(PASSED[0]), x(0), y(PASSED[1]), "axis");
    for (const tick of [-1, 1, 2]) {
      svg += text(x(tick), 246, plain(tick), "tick", "middle") + text(30, y(tick) + 4, plain(tick), "tick", "end");
    }
    svg += line(x(S[0]), y(S[0]), x(S[1]), y(S[1]), "constant") + line(x(S[0]), derivative(S[0]), x(S[1]), derivative(S[1]), "derivative");
    svg += `<circle cx="${x(value)}" cy="${y(value)}" r="6" class="constant"/><circle cx="${x(value)}" cy="${derivative(value)}" r="6" class="derivative"/>`;
    svg += text(x(0.95), y(1.5), "constant: s", "constant", "end") + text(x(1.95), derivative(2) + 22, "derivative: s · u", "derivative", "end");
    lines.innerHTML = svg + text(x(2), 262, "s", "tick", "end") + text(36, 12, "gradient passed on", "tick");
  }

  function drawSteps(value, upstream) {
    const x = scale(POWERS, [12, 300]);
    const bars = [["a neuron above 0", upstream, "other"], ["derivative", value * upstream, "derivative"], ["constant", value, "constant"]];
    let svg = text(12, 12, `step of a weight, learning rate ${RATE}`, "tick");
    bars.forEach(([name, gradient, kind], row) => {
      const size = Math.abs(RATE * gradient), top = 34 + row * 64;
      const width = size ? Math.max(2, x(Math.log10(size)) - x(POWERS[0])) : 0;
      svg += text(12, top, `${name}: ${plain(size)}`, kind) + `<rect x="12" y="${top + 8}" width="${width}" height="22" class="${kind}"/>`;
    });
    for (const power of [-10, -8, -6, -4, -2, 0]) svg += text(x(power), 246, power ? `10${power === -10 ? "⁻¹⁰" : "⁻" + "⁰¹²³⁴⁵⁶⁷⁸⁹"[-power]}` : "1", "tick", power ? "middle" : "end");
    steps.innerHTML = svg + line(12, 228, 300, 228, "axis");
  }

  function draw() {
    const value = Number(s.value), upstream = 10 ** Number(u.value);
    figure.querySelector("output[for=rule-s]").textContent = plain(value);
    figure.querySelector("output[for=rule-u]").textContent = plain(upstream);
    s.setAttribute("aria-valuetext", plain(value));
    u.setAttribute("aria-valuetext", plain(upstream));
    drawLines(value, upstream);
    drawSteps(value, upstream);
    const ratio = Number((1 / upstream).toPrecision(2)).toLocaleString("en");
    document.getElementById("rule-words").textContent = value === 0
      ? "At s = 0 both pass nothing on: the two rules agree."
      : `The derivative passes on ${plain(value * upstream)}, the constant ${plain(value)}` +
        (upstream < 1 ? `, ${ratio} times as much.` : ": at an upstream gradient of 1 the two rules agree.");
  }

  for (const slider of [s, u]) slider.addEventListener("input", draw);
  draw();
}
