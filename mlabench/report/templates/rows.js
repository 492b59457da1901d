// The page's numbers: each column holds its distinct texts in their order, and for every row the place of its text.
const packed = Uint8Array.from(atob(document.getElementById("data").textContent), (one) => one.charCodeAt(0));
const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
const data = await new Response(unpacked).json();
const NOT_MEASURED = "\u2013";
const RIVAL = "rival.";

function code(column, row) {
  return typeof column.codes === "number" ? column.codes : column.codes[row];
}

function textOf(column, row) {
  return column.texts[code(column, row)] ?? NOT_MEASURED;
}

// A column of a table, or of the record that a row is of or is held against: a function of the row.
function reader(table, name, part) {
  const column = table[name];
  if (column) return (row) => column[part][code(column, row)];
  const records = name.startsWith(RIVAL) ? table.rival : table.record;
  const own = data.records.columns[name.replace(RIVAL, "")];
  return (row) => own[part][code(own, records[row])];
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// For whoever looks at the page's numbers in a console.
globalThis.report = { data };
