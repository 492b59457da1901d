const table = document.querySelector("#records");
const body = table.tBodies[0];
const count = document.querySelector("#count");

// Unmeasured values have an empty key and stay last in both directions.
function compare(a, b, numeric, sign) {
  if (a === "" || b === "") return (a === "") - (b === "");
  return sign * (numeric ? a - b : a.localeCompare(b));
}

table.tHead.addEventListener("click", (event) => {
  const heading = event.target.closest("th");
  if (!heading) return;
  const ascending = heading.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const key = (row) => row.cells[heading.cellIndex].dataset.key;
  const numeric = heading.classList.contains("number");
  const rows = [...body.rows].sort((a, b) => compare(key(a), key(b), numeric, ascending ? 1 : -1));
  body.append(...rows);
});

document.querySelector("#filter").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of body.rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    shown += !row.hidden;
  }
  count.textContent = `${shown} of ${body.rows.length} shown`;
});
