// A record's samples in the order taken, as a small line; what it spans is told in words.
const [LINE_WIDTH, LINE_HEIGHT, LEVELS, MOST_POINTS] = [72, 18, 32, 24];

function samplesOf(row) {
  const told = (field) => textOf(columns[field], row);
  const [count, least, greatest] = ["samples", "samples_us_least", "samples_us_greatest"].map(told);
  return `${count} samples: least ${least}, median ${told("latency_us")}, greatest ${greatest}`;
}

function samplesLine(row) {
  const heights = columns.samples_shape.texts[code(columns.samples_shape, row)];
  if (!heights) return NOT_MEASURED;
  const step = (LINE_WIDTH - 4) / (MOST_POINTS - 1);
  const points = [...heights].map((level, place) => [2 + place * step, y(parseInt(level, LEVELS))]);
  const line = svg("polyline", { points: points.join(" ") });
  const last = svg("circle", { cx: points.at(-1)[0], cy: points.at(-1)[1], r: 1.6 });
  const title = svg("title");
  title.textContent = samplesOf(row);
  const looks = { class: "samples", role: "img", width: LINE_WIDTH, height: LINE_HEIGHT };
  const drawn = svg("svg", { ...looks, "aria-label": title.textContent });
  drawn.append(title, line, last);
  return drawn;
}

function y(level) {
  return 2 + (1 - level / (LEVELS - 1)) * (LINE_HEIGHT - 4);
}

function svg(name, attributes = {}) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
