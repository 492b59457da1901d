// The table of all records: sorted and filtered as numbers, drawn as far as one looks.
const STEP = 100;
// A note of more letters gets a wider column, so that its row is not many lines high.
const LONG_NOTE = 60;
const table = document.getElementById("records");
const more = document.getElementById("more");
const { rows: recordCount, shown, columns } = data.records;
const shownColumns = shown.map(([field]) => columns[field]);
let order = Array.from({ length: recordCount }, (_, row) => row);
let matches = order;
let words = [];
let drawn = 0;

const searched = shownColumns.filter((_, place) => !shown[place][3]);
const haystack = order.map((row) => searched.map((column) => textOf(column, row)).join(" ").toLowerCase());

function drawMore() {
  const rows = matches.slice(drawn, drawn + STEP).map((row) => {
    const line = element("tr", {}, element("td", {}, commandButton(row)));
    line.dataset.status = textOf(columns.status, row);
    shown.forEach(([, , isNumber, isDrawn], place) => {
      const cell = element("td", {}, isDrawn ? samplesLine(row) : textOf(shownColumns[place], row));
      if (isNumber) cell.className = "number";
      else if (cell.textContent.length > LONG_NOTE) cell.className = "long";
      line.append(cell);
    });
    return line;
  });
  table.tBodies[0].append(...rows);
  drawn += rows.length;
  more.hidden = drawn >= matches.length;
}

function showMatches() {
  matches = words.length ? order.filter((row) => words.every((word) => haystack[row].includes(word))) : order;
  const count = words.length ? `${matches.length} of ${recordCount} shown` : `${recordCount} shown`;
  document.getElementById("count").textContent = count;
  table.tBodies[0].replaceChildren();
  drawn = 0;
  drawMore();
}

// Unmeasured values stay last in both directions.
function sortBy(column, sign) {
  const key = (row) => code(column, row);
  order = order.slice().sort((a, b) => (key(a) < 0) - (key(b) < 0) || sign * (key(a) - key(b)));
}

table.tHead.addEventListener("click", (event) => {
  const heading = event.target.closest("th[data-place]");
  if (!heading) return;
  const ascending = heading.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  sortBy(shownColumns[heading.dataset.place], ascending ? 1 : -1);
  showMatches();
});

document.getElementById("filter").addEventListener("input", (event) => {
  words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  showMatches();
});

more.addEventListener("click", drawMore);
addEventListener("beforeprint", () => { while (!more.hidden) drawMore(); });
showMatches();
