"use strict";
(() => {
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const { items, threshold, intervals, good: goodName, defective } = data; // by ascending score
  const slider = document.getElementById("cut");
  const counts = document.getElementById("counts");
  // The calibration images set the threshold, so their count is no test of it.
  const good = items.filter((item) => !item.bad && !item.calibration);
  const bad = items.filter((item) => item.bad);
  const calibration = items.filter((item) => item.calibration);
  const total = { good: good.length, bad: bad.length };

  // A cut is a score: what exceeds it is rejected. The first one rejects everything.
  const scores = [...new Set(items.map((item) => item.score))];
  const span = scores[scores.length - 1] - scores[0] || 1;
  const cuts = [scores[0] - 0.01 * span, ...scores];
  const built = Math.max(0, cuts.findLastIndex((cut) => cut <= threshold));

  const WIDTH = 720, HEIGHT = 180, BINS = 48;
  const low = cuts[0], high = scores[scores.length - 1] + 0.01 * span;
  const place = (score) => ((score - low) / (high - low)) * WIDTH;
  const svgOf = (name, attributes) => {
    const node = document.createElementNS(document.querySelector("svg").namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };
  const histogram = svgOf("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT + 20}`, role: "img", "aria-label": "Scores of good and defective images" });
  const heights = { good: Array(BINS).fill(0), bad: Array(BINS).fill(0) };
  for (const item of items) {
    heights[item.bad ? "bad" : "good"][Math.min(BINS - 1, Math.floor((place(item.score) / WIDTH) * BINS))] += 1;
  }
  const most = Math.max(1, ...heights.good, ...heights.bad);
  for (const [kind, style] of [["good", "normal"], ["bad", "anomalous"]]) {
    heights[kind].forEach((count, bin) => {
      const height = (count / most) * HEIGHT;
      if (count) histogram.append(svgOf("rect", { class: style, x: (bin * WIDTH) / BINS, y: HEIGHT - height, width: WIDTH / BINS, height }));
    });
  }
  histogram.append(svgOf("path", { class: "axis", d: `M0 ${HEIGHT}H${WIDTH}` }));
  for (const [x, anchor, label] of [[0, "start", low.toFixed(2)], [WIDTH / 2, "middle", "score"], [WIDTH, "end", high.toFixed(2)]]) {
    const text = svgOf("text", { x, y: HEIGHT + 16, "text-anchor": anchor });
    text.textContent = label;
    histogram.append(text);
  }
  const line = svgOf("line", { class: "cut", y1: 0, y2: HEIGHT + 6 });
  histogram.append(line);
  document.getElementById("histogram").append(histogram);

  const percent = (value) => `${(100 * value).toFixed(1)}`;
  const rate = (kind, count) => {
    if (!total[kind]) return "";
    const [from, to] = intervals[kind][count];
    return ` (${percent(count / total[kind])} %, 95 % interval ${percent(from)} to ${percent(to)} %)`;
  };
  const picture = (item, rejected) => {
    const wrong = rejected !== item.bad;
    const holder = document.createElement("li");
    const figure = document.createElement("figure");
    if (item.image) {
      const image = document.createElement("img");
      image.src = item.image;
      image.alt = `${item.kind} ${item.name}`;
      figure.append(image);
    }
    const caption = document.createElement("figcaption");
    const truth = document.createElement(wrong ? "strong" : "span");
    if (wrong) truth.className = "wrong";
    truth.textContent = `${item.kind}${wrong ? (rejected ? ", false alarm" : ", missed") : ""}`;
    caption.append(truth, ` ${item.name}, ${item.score.toFixed(3)}`);
    figure.append(caption);
    holder.append(figure);
    return holder;
  };

  const show = () => {
    const cut = cuts[Number(slider.value)];
    const above = (some) => some.filter((item) => item.score > cut).length;
    const alarms = above(good);
    const misses = total.bad - above(bad);
    const text = `Threshold ${cut.toFixed(4)}: ${alarms} of ${total.good} ${goodName} rejected${rate("good", alarms)}; ` +
      `${misses} of ${total.bad} ${defective} missed${rate("bad", misses)}. ` +
      `Of the calibration set, ${above(calibration)} of ${calibration.length} rejected.`;
    counts.textContent = Number(slider.value) === built ? `As built. ${text}` : text;
    slider.setAttribute("aria-valuetext", cut.toFixed(4));
    line.setAttribute("x1", place(cut));
    line.setAttribute("x2", place(cut));
    const accepted = items.filter((item) => item.score <= cut).slice(-4).reverse();
    const rejected = items.filter((item) => item.score > cut).slice(0, 4);
    document.getElementById("accepted").replaceChildren(...accepted.map((item) => picture(item, false)));
    document.getElementById("rejected").replaceChildren(...rejected.map((item) => picture(item, true)));
  };
  slider.max = String(cuts.length - 1);
  slider.value = String(built);
  slider.addEventListener("input", show);
  document.getElementById("reset").addEventListener("click", () => { slider.value = String(built); show(); slider.focus(); });
  show();
})();
