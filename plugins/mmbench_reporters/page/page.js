"use strict";
// Everything that is shown stands in the page already; texts go in as text, never as markup.

const all = (selector, within = document) => [...within.querySelectorAll(selector)];

function make(tag, content = [], attributes = {}) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...[content].flat());
  return made;
}

// -- Sorting --------------------------------------------------------------------------------------

function sort(heading) {
  const table = heading.closest("table"), column = heading.cellIndex;
  const first = heading.dataset.first ?? "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const order = heading.getAttribute("aria-sort") === first ? other : first;
  for (const each of table.tHead.rows[0].cells) each.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const numeric = heading.dataset.first !== undefined;
  const value = (row) => {
    const cell = row.cells[column];
    return numeric ? Number(cell.dataset.value ?? NaN) : cell.textContent;
  };
  const compare = (a, b) => {
    if (!numeric) return sign * a.localeCompare(b, "en", { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b); // gaps last
    return sign * (a - b);
  };
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b))));
}

for (const heading of all("thead th")) {
  const button = make("button", [...heading.childNodes], { type: "button" });
  button.addEventListener("click", () => sort(heading));
  heading.append(button);
  heading.setAttribute("aria-sort", "none");
}

// -- Filters --------------------------------------------------------------------------------------

const filters = document.getElementById("filters");
const rowOf = (element) => document.getElementById(element.dataset.row);

function wanted(row, { track, privilege, text }) {
  const told = all(".privilege", row).map((each) => each.textContent);
  const allowed = privilege === "none" ? told.length === 0 : told.includes(privilege.slice(1));
  return (
    (!track || row.dataset.track === track) &&
    (!privilege || allowed) &&
    row.dataset.method.toLowerCase().includes(text.trim().toLowerCase())
  );
}

function filter() {
  const chosen = { label: "", ...Object.fromEntries(new FormData(filters)) };
  const rows = all(".costs tbody tr");
  const shown = new Set(rows.filter((row) => wanted(row, chosen)));
  for (const element of all("[data-row], [data-protocol], [data-metric], [data-label]")) {
    const { row, protocol, metric, label } = element.dataset;
    const fits = [[protocol, chosen.protocol], [metric, chosen.metric], [label, chosen.label]].every(
      ([own, choice]) => own === undefined || !choice || own === choice,
    );
    element.toggleAttribute("hidden", !fits || (row !== undefined && !shown.has(rowOf(element))));
    if (metric !== undefined && metric === chosen.metric) element.open = true;
  }
  filters.querySelector("output").value = `${shown.size} of ${rows.length} methods`;
  for (const table of all(".scores")) rove(table);
  hide();
}

if (filters) {
  filters.hidden = false;
  filters.reset(); // a browser may have kept what was chosen before
  filters.addEventListener("input", filter);
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.querySelector("button").addEventListener("click", () => {
    filters.reset();
    filter();
  });
}

// -- Where a cell comes from ----------------------------------------------------------------------

const popup = document.getElementById("provenance");
let origin = null, pinned = false, leaving = 0;

function provenance(cell) {
  const table = cell.closest("table").dataset, line = cell.parentElement;
  const row = rowOf(line).dataset, own = cell.dataset;
  const heading = cell.closest("table").tHead.rows[0].cells[cell.cellIndex];
  const seeds = row.seeds.split(", ").length;
  return {
    title: `${row.method} · ${line.dataset.label} · ${heading.textContent}`,
    facts: [
      ["Mean", `${own.mean} over ${seeds} ${seeds === 1 ? "seed" : "seeds"} (${row.seeds})`],
      ["Spread, seeds", own.spread || "not known: one seed"],
      ["Spread, masks", own.masks || "none: one mask"],
      ["Floor", line.dataset.floor],
      ["Ceiling", own.ceiling || "not known"],
      ["Test", own.test],
      ["Frames missing", heading.dataset.hidden],
      ["Metric", `${table.metricId}: ${table.formula}`],
      ["Masks", `${table.protocolId}, ${table.maskSeeds} per condition, ${table.maskHash}`],
      ["Data", table.dataHash + (table.synthetic === undefined ? "" : ", synthetic")],
      ["Settings", row.config],
      ["Commit", row.commit],
    ].filter(([, value]) => value),
  };
}

function show(cell) {
  clearTimeout(leaving);
  if (cell === origin) return;
  hide();
  const { title, facts } = provenance(cell);
  const close = make("button", "×", { type: "button", "aria-label": "Close" });
  close.addEventListener("click", () => hide());
  const list = make("dl", facts.flatMap(([name, value]) => [make("dt", name), make("dd", value)]));
  popup.replaceChildren(make("h5", title), close, list);
  popup.hidden = false;
  cell.setAttribute("aria-describedby", "provenance");
  cell.classList.add("shown");
  origin = cell;
  place();
}

// Beside the cell, so that a pointer can go on to the next row.
function place() {
  if (!origin) return;
  const at = origin.getBoundingClientRect(), size = popup.getBoundingClientRect();
  const right = at.right + 8, left = at.left - size.width - 8;
  const x = right + size.width < innerWidth ? right : Math.max(8, left);
  popup.style.setProperty("--x", `${x}px`);
  popup.style.setProperty("--y", `${Math.max(8, Math.min(at.top, innerHeight - size.height - 8))}px`);
}

function hide() {
  clearTimeout(leaving);
  origin?.removeAttribute("aria-describedby");
  origin?.classList.remove("shown");
  popup.hidden = true;
  origin = null;
  pinned = false;
}

const leave = () => {
  clearTimeout(leaving);
  if (!pinned) leaving = setTimeout(hide, 200); // time to move into the popup
};

const cells = (row) => all("td[data-value]", row);
const visible = (table) => all("tbody tr:not([hidden])", table);

// One cell of each table is in the order of Tab; arrows go on from there.
function rove(table, chosen = null) {
  const every = all("td[data-value]", table);
  const target = chosen ?? visible(table).flatMap(cells)[0];
  for (const cell of every) cell.tabIndex = cell === target ? 0 : -1;
}

function go(event, cell) {
  const table = cell.closest("table"), rows = visible(table), row = cell.parentElement;
  const line = cells(row), y = rows.indexOf(row), x = line.indexOf(cell);
  const next = {
    ArrowRight: () => line[x + 1],
    ArrowLeft: () => line[x - 1],
    ArrowDown: () => rows[y + 1] && cells(rows[y + 1])[x],
    ArrowUp: () => rows[y - 1] && cells(rows[y - 1])[x],
    Home: () => line[0],
    End: () => line.at(-1),
    Enter: () => cell,
  }[event.key];
  if (!next) return;
  event.preventDefault();
  const target = next();
  if (!target) return;
  if (target === cell) {
    show(cell);
    pinned = true;
  } else {
    rove(table, target);
    target.focus();
  }
}

for (const table of all(".scores")) {
  table.setAttribute("role", "grid");
  table.closest(".scroll").removeAttribute("tabindex"); // its cells are in the order of Tab
  rove(table);
  const cellOf = (event) => event.target.closest("td[data-value]");
  table.addEventListener("pointerover", (event) => {
    const cell = event.pointerType !== "touch" && !pinned && cellOf(event);
    if (cell) show(cell);
  });
  table.addEventListener("pointerout", leave);
  table.addEventListener("focusin", (event) => {
    const cell = cellOf(event);
    if (cell?.matches(":focus-visible")) show(cell); // a finger's click comes later, and would hit the popup
  });
  table.addEventListener("focusout", leave);
  table.addEventListener("click", (event) => {
    const cell = cellOf(event);
    if (!cell) return;
    rove(table, cell);
    cell.focus();
    show(cell);
    pinned = true;
  });
  table.addEventListener("keydown", (event) => {
    const cell = cellOf(event);
    if (cell) go(event, cell);
  });
}

popup.addEventListener("pointerenter", () => clearTimeout(leaving));
popup.addEventListener("pointerleave", leave);
document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
document.addEventListener("click", (event) => {
  if (!event.target.closest("td[data-value], #provenance")) hide();
});
document.addEventListener("scroll", place, true);

// -- Curves ---------------------------------------------------------------------------------------

for (const item of all(".legend li[data-row]")) {
  const figure = item.closest("figure");
  const button = make("button", [...item.childNodes], { type: "button", "aria-pressed": "false" });
  const dim = (row) => {
    const rows = all("[aria-pressed=true]", figure).map((each) => each.parentElement.dataset.row);
    if (row) rows.push(row);
    for (const curve of all("g.curve", figure))
      curve.classList.toggle("dimmed", rows.length > 0 && !rows.includes(curve.dataset.row));
  };
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
    dim();
  });
  button.addEventListener("pointerenter", () => dim(item.dataset.row));
  button.addEventListener("pointerleave", () => dim());
  item.append(button);
}

if (filters) filter();
