const PAGE = 100;
const PRINTED = 2000;
const FILTERS = [
  ["model", "Model", NAMES.model],
  ["tag", "Tag", NAMES.tag],
  ["level", "Difficulty", NAMES.level],
  ["reason", "Reason", NAMES.reason],
  ["kind", "Error kind", NAMES.kind],
  ["change", "Change", NAMES.change],
].filter(([name, , names]) => names.length > (name === "model" ? 1 : 0));
const several = { model: NAMES.model.length > 1, sample: DATA.samples > 1 };

const nameAt = (kind, row) => NAMES[kind][COLUMN[kind][row]] ?? "";
const COLUMNS = [
  { key: "status", title: "Status", value: (r) => COLUMN.status[r] },
  { key: "task", title: "Task", value: (r) => COLUMN.id[r] },
  { key: "command", title: "Command", value: (r) => COLUMN.command[r] },
  { key: "reason", title: "Reason", value: (r) => reasonText(r) },
  several.model && { key: "model", title: "Model", value: (r) => nameAt("model", r) },
  several.sample && { key: "sample", title: "Sample", value: (r) => COLUMN.sample[r], number: true },
  NAMES.level.length && { key: "level", title: "Difficulty", value: (r) => COLUMN.level[r] < 0 ? "" : nameAt("level", r) },
  DATA.baseline && { key: "change", title: "Change", value: (r) => nameAt("change", r) },
  { key: "seconds", title: "Time", value: (r) => COLUMN.seconds[r], number: true },
  COLUMN.tokens.some((n) => n !== null) && { key: "tokens", title: "Tokens", value: (r) => COLUMN.tokens[r] ?? -1, number: true },
].filter(Boolean);
const collator = new Intl.Collator("en", { numeric: true });

function reasonText(row) {
  const label = nameAt("reason", row);
  return label && COLUMN.detail[row] ? label + ": " + COLUMN.detail[row] : label;
}

let haystacks = null; // made at the first search: 20,000 rows need none to be shown
function haystack(row) {
  haystacks ??= COLUMN.id.map((id, r) =>
    [id, COLUMN.task[r], COLUMN.command[r], reasonText(r)].join("\n").toLowerCase());
  return haystacks[row];
}

const state = { q: "", status: new Set(), sort: "", down: false, page: 0 };
for (const [name] of FILTERS) state[name] = "";
let view = []; // the rows that pass the filters, in order

function passes(row, except = "") {
  if (except !== "status" && state.status.size && !state.status.has(COLUMN.status[row])) return false;
  for (const [name, , names] of FILTERS) {
    if (!state[name] || name === except) continue;
    const wanted = names.indexOf(state[name]);
    if (name === "tag" ? !COLUMN.tags[row].includes(wanted) : COLUMN[name][row] !== wanted) return false;
  }
  if (!state.q) return true;
  return state.q.toLowerCase().split(/\s+/).every((word) => haystack(row).includes(word));
}

function select() {
  view = [];
  for (let row = 0; row < COUNT; row++) if (passes(row)) view.push(row);
  const column = COLUMNS.find((each) => each.key === state.sort);
  if (column) {
    const sign = state.down ? -1 : 1;
    const by = column.number || column.key === "status"
      ? (a, b) => column.value(a) - column.value(b)
      : (a, b) => collator.compare(column.value(a), column.value(b));
    view.sort((a, b) => sign * by(a, b) || a - b);
  }
  state.page = Math.min(state.page, Math.max(0, Math.ceil(view.length / PAGE) - 1));
}

// -- address -------------------------------------------------------------------------------------

function hash(row = null) {
  const parts = new URLSearchParams();
  if (row !== null) {
    parts.set("task", COLUMN.id[row]);
    if (several.model) parts.set("model", nameAt("model", row));
    if (several.sample) parts.set("sample", COLUMN.sample[row]);
    return "#" + parts;
  }
  if (state.q) parts.set("q", state.q);
  if (state.status.size) parts.set("status", [...state.status].sort().map((s) => STATUS[s]).join(","));
  for (const [name] of FILTERS) if (state[name]) parts.set(name, state[name]);
  if (state.sort) parts.set("sort", (state.down ? "-" : "") + state.sort);
  return String(parts) ? "#" + parts : "#results";
}

function read(text) {
  const parts = new URLSearchParams(text.replace(/^#/, ""));
  if (parts.has("task")) return parts;
  state.q = parts.get("q") ?? "";
  state.status = new Set((parts.get("status") ?? "").split(",").map((s) => STATUS.indexOf(s)).filter((s) => s >= 0));
  for (const [name, , names] of FILTERS) state[name] = names.includes(parts.get(name)) ? parts.get(name) : "";
  const sort = parts.get("sort") ?? "";
  state.sort = sort.replace(/^-/, "");
  state.down = sort.startsWith("-");
  state.page = 0;
  return null;
}

// -- drawing -------------------------------------------------------------------------------------

function badge(status) {
  return el("span", { class: "badge " + STATUS[status] }, el("span", { "aria-hidden": "true" }, GLYPH[status] + " "), STATUS[status]);
}

function cell(column, row) {
  switch (column.key) {
    case "status":
      return badge(COLUMN.status[row]);
    case "task":
      return [
        el("a", { href: hash(row), class: "id", "data-row": row }, plain(COLUMN.id[row])), " ",
        el("span", { class: "sentence", title: plain(COLUMN.task[row]) }, plain(COLUMN.task[row])),
      ];
    case "command":
      return el("code", { title: plain(COLUMN.command[row]) }, plain(COLUMN.command[row]));
    case "reason":
      return el("span", { title: plain(reasonText(row)) }, plain(reasonText(row)));
    case "seconds":
      return duration(COLUMN.seconds[row]);
    case "tokens":
      return COLUMN.tokens[row]?.toLocaleString("en") ?? "";
    case "change":
      return el("span", { class: "change " + nameAt("change", row).replace(" ", "_") }, nameAt("change", row));
    default:
      return plain(String(column.value(row)));
  }
}

function drawHead() {
  const cells = COLUMNS.map((column) => {
    const sorted = state.sort === column.key;
    return el("th", {
      scope: "col", class: "c-" + column.key + (column.number ? " n" : ""),
      "aria-sort": sorted ? (state.down ? "descending" : "ascending") : "none",
    }, el("button", { type: "button", "data-sort": column.key }, column.title, el("span", { class: "arrow", "aria-hidden": "true" }, sorted ? (state.down ? " ▾" : " ▴") : "")));
  });
  const focused = document.activeElement?.dataset?.sort;
  $("#table thead").replaceChildren(el("tr", {}, cells));
  if (focused) $(`#table [data-sort="${focused}"]`)?.focus();
}

function drawRows(rows) {
  $("#table tbody").replaceChildren(...rows.map((row) =>
    el("tr", { class: STATUS[COLUMN.status[row]], "data-row": row }, COLUMNS.map((column) =>
      el("td", { class: "c-" + column.key + (column.number ? " n" : "") }, cell(column, row))))));
}

function drawFilters() {
  $("#q").value = state.q;
  for (const button of document.querySelectorAll(".statuses button")) {
    const status = Number(button.value);
    let count = 0;
    for (let row = 0; row < COUNT; row++) if (COLUMN.status[row] === status && passes(row, "status")) count++;
    button.setAttribute("aria-pressed", state.status.has(status));
    button.lastChild.textContent = " " + count.toLocaleString("en");
  }
  for (const [name] of FILTERS) $("#f-" + name).value = state[name];
}

function drawPages() {
  const last = Math.ceil(view.length / PAGE) - 1;
  const go = (title, page, disabled) => el("button", { type: "button", "data-page": page, disabled }, title);
  $(".pages").replaceChildren(...(last < 1 ? [] : [
    go("First", 0, state.page === 0), go("Previous", state.page - 1, state.page === 0),
    el("span", {}, `Page ${state.page + 1} of ${last + 1}`),
    go("Next", state.page + 1, state.page === last), go("Last", last, state.page === last),
  ]));
  const from = state.page * PAGE;
  const number = (n) => n.toLocaleString("en");
  $("#shown").textContent = !view.length ? "No result passes the filters"
    : `${number(from + 1)} to ${number(Math.min(from + PAGE, view.length))} of ${number(view.length)}` +
      (view.length < COUNT ? ` (${number(COUNT)} in all)` : "");
}

function draw() {
  select();
  drawHead();
  drawRows(view.slice(state.page * PAGE, (state.page + 1) * PAGE));
  drawFilters();
  drawPages();
}

function change(update) {
  update();
  state.page = 0;
  history.replaceState(null, "", hash());
  draw();
}

// -- events --------------------------------------------------------------------------------------

for (const status of [0, 1, 2]) {
  $(".statuses").append(el("button", { type: "button", value: status, class: STATUS[status], "aria-pressed": "false" }, GLYPH[status] + " " + STATUS[status], el("span", {}, "")));
}
for (const [name, title, names] of FILTERS) {
  const sorted = [...names].sort(collator.compare);
  $(".selects").append(el("label", {}, el("span", {}, title),
    el("select", { id: "f-" + name }, el("option", { value: "" }, "all"), sorted.map((n) => el("option", { value: n }, plain(n))))));
}
let typing = 0;
$("#q").addEventListener("input", (event) => {
  clearTimeout(typing);
  typing = setTimeout(() => change(() => { state.q = event.target.value; }), 120);
});
$("#filters").addEventListener("submit", (event) => event.preventDefault());
$("#filters").addEventListener("change", (event) => {
  const name = event.target.id.replace(/^f-/, "");
  if (event.target.matches("select")) change(() => { state[name] = event.target.value; });
});
$(".statuses").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) change(() => { if (!state.status.delete(Number(button.value))) state.status.add(Number(button.value)); });
});
$("#clear").addEventListener("click", () => change(() => read("")));
$("#table thead").addEventListener("click", (event) => {
  const key = event.target.closest("button")?.dataset.sort;
  if (key) change(() => {
    const again = state.sort === key;
    if (again && state.down) state.sort = ""; // third time: the order of the run
    else [state.sort, state.down] = [key, again];
  });
});
$("#table tbody").addEventListener("click", (event) => {
  const row = event.target.closest("tr")?.dataset.row;
  if (row !== undefined && !event.target.closest("a") && !String(getSelection())) location.hash = hash(Number(row));
});
$(".pages").addEventListener("click", (event) => {
  const page = event.target.dataset.page;
  if (page === undefined) return;
  state.page = Number(page);
  draw();
  $("#results").scrollIntoView();
  $("#table tbody a")?.focus({ preventScroll: true });
});
document.addEventListener("click", (event) => {
  const data = event.target.closest("[data-filter]")?.dataset;
  if (!data) return;
  change(() => {
    read("");
    state[data.filter] = data.value;
    if (data.model && several.model) state.model = data.model;
  });
  $("#results").scrollIntoView();
  $("#results").focus({ preventScroll: true });
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || $("#detail").open) return;
  const typed = event.target.closest("input, select, textarea");
  if (event.key === "/" && !typed) {
    event.preventDefault();
    $("#q").focus();
    $("#q").select();
    return;
  }
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  if (typed && typed.id !== "q") return;
  const links = [...document.querySelectorAll("#table tbody a.id")];
  const at = links.indexOf(document.activeElement);
  if (at < 0 && !typed) return; // elsewhere the arrows scroll
  const to = event.key === "ArrowDown" ? links[at + 1] : at > 0 ? links[at - 1] : $("#q");
  if (to) {
    event.preventDefault();
    to.focus();
  }
});
// on paper there are no pages to turn
addEventListener("beforeprint", () => drawRows(view.slice(0, PRINTED)));
addEventListener("afterprint", draw);
