// The charts: Bokeh draws them, this fills their sources with the rows that the controls choose.
const dark = matchMedia("(prefers-color-scheme: dark)");
const MOST_LISTED = 500;
const DOTTED = [1.4, 3];

const ofScheme = (colour) => (dark.matches && data.dark[colour]) || colour;

function inScheme(item) {
  let text = JSON.stringify(item);
  if (dark.matches) for (const [light, other] of Object.entries(data.dark)) text = text.replaceAll(light, other);
  return JSON.parse(text);
}

class View {
  constructor(section, view) {
    Object.assign(this, view, { hidden: new Set() });
    this.form = section.querySelector(".controls");
    this.chosen = Object.fromEntries(view.controls.map((control) => [control.field, control.start]));
    this.looks = Object.fromEntries(view.series.map((look) => [look.name, look]));
    this.form.addEventListener("change", (event) => {
      this.chosen[event.target.name] = event.target.value;
      this.fill();
    });
    this.form.addEventListener("click", (event) => this.toggle(event.target.closest("[data-series]")));
    for (const chart of this.charts) {
      const details = document.querySelector(`#${chart.id} details`);
      details.addEventListener("toggle", () => this.list(chart));
    }
  }

  toggle(button) {
    if (!button) return;
    const isShown = button.getAttribute("aria-pressed") === "true";
    button.setAttribute("aria-pressed", String(!isShown));
    this.hidden[isShown ? "add" : "delete"](button.dataset.series);
    this.fill();
  }

  async draw() {
    for (const chart of this.charts) {
      chart.plots = [];
      for (const panel of chart.panels) {
        const place = document.getElementById(panel.id);
        place.replaceChildren();
        const drawn = await Bokeh.embed.embed_item(inScheme(panel.item), place);
        const plot = drawn.roots[0].model;
        const sources = [...plot.references()].filter((model) => model.type === "ColumnDataSource");
        chart.plots.push(Object.fromEntries(sources.map((source) => [source.name, source])));
        leaveOutOfTabOrder(place);
      }
    }
    this.fill();
  }

  // Rows of a panel's table under the fixed conditions and, for the fields in `by`, the controls.
  pick(spec, by) {
    const table = this.tables[spec.table];
    const wanted = [...Object.entries(spec.where), ...by.map((field) => [field, this.chosen[field]])];
    const tests = wanted.map(([field, text]) => [reader(table, field, "texts"), text]);
    const group = reader(table, spec.group, "texts");
    const rows = [];
    for (let row = 0; row < table.rows; row += 1) {
      if (!this.hidden.has(group(row)) && tests.every(([read, text]) => read(row) === text)) rows.push(row);
    }
    return rows;
  }

  fill() {
    for (const chart of this.charts) {
      chart.panels.forEach(({ id, spec }, place) => {
        const sources = chart.plots[place] ?? {};
        const chosen = this.pick(spec, spec.by);
        if (sources.points) sources.points.data = this.points(spec, chosen);
        if (sources.every) sources.every.data = this.points(spec, this.pick(spec, []));
        if (sources.lines) sources.lines.data = this.lines(spec, chosen, "y");
        if (sources.floors) sources.floors.data = this.lines(spec, chosen, "floor");
        if (sources.bars) sources.bars.data = this.points(spec, chosen);
        if (sources.marks) sources.marks.data = this.marks(spec);
        if (sources.bands) sources.bands.data = this.bands(spec, chosen);
        document.getElementById(id).setAttribute("aria-label", this.label(chart, chosen.length));
      });
      const setting = document.querySelector(`#${chart.id} .setting`);
      setting.textContent = this.choice(chart);
      this.list(chart);
    }
  }

  choice(chart) {
    const { by } = chart.panels[0].spec;
    const named = { num_q_heads: (text) => `${text} heads` };
    return by.map((field) => (named[field] ?? ((text) => `${field} ${text}`))(this.chosen[field])).join(", ");
  }

  told(title, chart) {
    return [title, this.choice(chart), this.setting].filter(Boolean).join(", ");
  }

  label(chart, count) {
    return `${this.told(chart.title, chart)}: chart of ${count} points, listed in the table below`;
  }

  points(spec, rows) {
    const table = this.tables[spec.table];
    const group = reader(table, spec.group, "texts");
    const found = {
      colour: rows.map((row) => ofScheme(this.looks[group(row)].colour)),
      size: rows.map((row) => this.looks[group(row)].size),
      marker: rows.map((row) => this.looks[group(row)].marker),
    };
    for (const [role, name] of Object.entries(spec.columns)) found[role] = rows.map(this.number(table, name));
    for (const name of spec.texts) {
      const read = reader(table, name, "texts");
      found[name] = rows.map((row) => read(row) ?? NOT_MEASURED);
    }
    return found;
  }

  marks(spec) {
    const places = { ...spec, table: spec.marks, columns: { x: "x", y: "y" }, texts: ["text", "over"] };
    return this.points(places, this.pick(places, spec.by));
  }

  number(table, name) {
    const read = reader(table, name, "values");
    return (row) => read(row) ?? NaN;
  }

  // Rows by series, in the legend's order, each with its x.
  grouped(spec, rows) {
    const group = reader(this.tables[spec.table], spec.group, "texts");
    return this.series.map((look) => [look, rows.filter((row) => group(row) === look.name)]).filter(([, own]) => own.length);
  }

  lines(spec, rows, role) {
    const table = this.tables[spec.table];
    const [x, y] = [spec.columns.x, spec.columns[role]].map((name) => this.number(table, name));
    const groups = this.grouped(spec, rows);
    return {
      xs: groups.map(([, own]) => own.map(x)),
      ys: groups.map(([, own]) => own.map(y)),
      colour: groups.map(([look]) => ofScheme(look.colour)),
      dash: groups.map(([look]) => (role === "floor" ? DOTTED : look.dash)),
      width: groups.map(([look]) => (role === "floor" ? 1.4 : look.width)),
    };
  }

  bands(spec, rows) {
    const table = this.tables[spec.table];
    const [x, low, high] = ["x", "low", "high"].map((role) => this.number(table, spec.columns[role]));
    const groups = this.grouped(spec, rows);
    return {
      xs: groups.map(([, own]) => [...own, ...own.toReversed()].map(x)),
      ys: groups.map(([, own]) => [...own.map(low), ...own.toReversed().map(high)]),
      colour: groups.map(([look]) => ofScheme(look.colour)),
    };
  }

  counted(rows) {
    return rows > MOST_LISTED ? `The first ${MOST_LISTED} of ${rows}` : `${rows} points`;
  }

  // The numbers behind a chart, where its table is open.
  list(chart) {
    const details = document.querySelector(`#${chart.id} details`);
    if (!details.open) return;
    const from = this.tables[chart.table];
    const { spec } = chart.panels[0];
    const rows = this.pick({ ...spec, where: {} }, spec.by);
    const headings = chart.listed.map(([, heading]) => element("th", { scope: "col", textContent: heading }));
    const reads = chart.listed.map(([name]) => reader(from, name, "texts"));
    const lines = rows.slice(0, MOST_LISTED).map((row) =>
      element("tr", {}, ...reads.map((read) => element("td", { textContent: read(row) ?? NOT_MEASURED }))));
    const caption = element("caption", { textContent: this.told("", chart) || this.counted(rows.length) });
    const head = element("thead", {}, element("tr", {}, ...headings));
    details.querySelector(".scroll").replaceChildren(element("table", {}, caption, head, element("tbody", {}, ...lines)));
  }
}

// A picture to assistive technology: its numbers are in the table, so that the keyboard skips the canvas.
function leaveOutOfTabOrder(place) {
  for (const inside of place.querySelectorAll("*")) {
    if (!inside.shadowRoot) continue;
    for (const one of inside.shadowRoot.querySelectorAll("[tabindex]")) one.removeAttribute("tabindex");
    leaveOutOfTabOrder(inside.shadowRoot);
  }
}

const views = data.views.map((view) => new View(document.getElementById(view.id), view));
globalThis.report.views = views;

async function drawAll() {
  for (const view of views) await view.draw();
  document.body.dataset.drawn = dark.matches ? "dark" : "light";
}

Bokeh.set_log_level("warn");

// One after the other. On paper the scheme changes for a moment: what is drawn stays.
let drawing = drawAll();
dark.addEventListener("change", () => {
  if (!matchMedia("print").matches) drawing = drawing.then(drawAll);
});
