// The command that measures a record again, and the row of the table that shows it.
const OPTIONS = ["kernel", "device", "method", "cache", "seed"];

function commandOf(row) {
  const valueOf = (field) => {
    const column = columns[field];
    return (column.values ?? column.texts)[code(column, row)];
  };
  const known = data.records.command.filter(valueOf);
  const words = known.map((field) => {
    if (!OPTIONS.includes(field)) return `-a ${field}=${valueOf(field)}`;
    // Of a kernel at another commit the sources there are meant.
    return `--${field} ${String(valueOf(field)).split("@")[0]}`;
  });
  const [, commit] = (valueOf("kernel") ?? "").split("@");
  return ["mlabench sweep", ...words].join(" ") + (commit ? `  # in a checkout of ${commit}` : "");
}

function commandButton(row) {
  const button = element("button", { type: "button", className: "reveal", textContent: "\u25B8" });
  button.title = "The command that measures this again";
  button.setAttribute("aria-label", button.title);
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", () => toggleCommand(button, row));
  return button;
}

function toggleCommand(button, row) {
  const line = button.closest("tr");
  const isShown = button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(!isShown));
  if (isShown) line.nextElementSibling.remove();
  else line.after(commandLine(row, line.cells.length));
}

function commandLine(row, width) {
  const command = element("code", { textContent: commandOf(row) });
  const copy = element("button", { type: "button", className: "copy", textContent: "Copy" });
  copy.addEventListener("click", () => copyText(command, copy));
  const told = columns.samples_shape.texts[code(columns.samples_shape, row)] ? [element("p", { textContent: samplesOf(row) })] : [];
  const inside = element("div", { className: "command" }, ...told, command, copy);
  return element("tr", { className: "detail" }, element("td", { colSpan: width }, inside));
}

// Where a browser lets no page copy, the text is selected for the reader to do it.
async function copyText(shown, button) {
  getSelection().selectAllChildren(shown);
  const done = await navigator.clipboard?.writeText(shown.textContent).then(() => true, () => false);
  button.textContent = done ? "Copied" : "Selected: copy it with the keyboard";
}
