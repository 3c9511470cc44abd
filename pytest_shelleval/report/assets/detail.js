const dialog = $("#detail");
let open = null; // the row that is shown
let cameFrom = null;

function text(content, kind = "") {
  if (!content) return el("p", { class: "nothing" }, "(nothing)");
  return el("pre", { class: kind, tabindex: "0" }, shown(content));
}

function part(title, note, ...nodes) {
  return el("section", { class: "part" }, el("h3", {}, title, note ? el("span", { class: "sub" }, " " + note) : null), nodes);
}

function exitNote(record, name) {
  const test = name === "test";
  if (record[test ? "test_timed_out" : "timed_out"]) return "timed out";
  const code = record[test ? "test_exit_code" : "command_exit_code"];
  if (code === undefined || code === null) return "was not run";
  const notes = ["exit code " + code];
  if (!test && record.exited) notes.push("left the shell");
  if (!test && record.limit) notes.push("over the limit on " + record.limit);
  if (!test && record.output_truncated) notes.push("output cut at the limit");
  return notes.join(", ");
}

function times(record) {
  const steps = { reply: record.latency_s, ...record.durations };
  const given = Object.entries(steps).filter(([, value]) => typeof value === "number");
  if (!given.length) return null;
  const longest = Math.max(...given.map(([, value]) => value), 1e-9);
  const rows = given.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, plain(name)), el("td", { class: "n" }, duration(value)),
    el("td", { class: "wide" }, bar(value / longest))));
  return part("Timings", [record.start_time, record.end_time].filter(Boolean).map((t) => String(t).slice(11, 23)).join(" to ") + " UTC", el("table", { class: "times" }, el("tbody", {}, rows)));
}

function reply(record) {
  const usage = Object.entries(record.usage ?? {}).map(([name, n]) => `${name.replace("_tokens", "")} ${n} tokens`);
  const notes = [record.finish_reason && "finish reason " + record.finish_reason, ...usage, record.attempts > 1 && record.attempts + " requests"].filter(Boolean);
  if (!record.raw_response && !record.reasoning) return null;
  return part("Reply", notes.join(", "),
    record.reasoning ? el("details", { class: "reasoning" }, el("summary", {}, `Reasoning (${record.reasoning.length.toLocaleString("en")} characters)`), text(record.reasoning)) : null,
    text(record.raw_response));
}

function trajectory(record) {
  const steps = record.trajectory ?? [];
  if (!steps.length) return null;
  const rows = steps.map((step) => el("li", {},
    el("div", { class: "sub" }, `${Number(step.timestamp ?? 0).toFixed(3)} s, exit code ${step.result?.exit_code ?? "none"}`),
    text(String(step.command ?? ""), "shell"), step.result?.output ? text(String(step.result.output)) : null));
  return el("details", { class: "part" }, el("summary", {}, `Trajectory (${steps.length} step${steps.length > 1 ? "s" : ""})`), el("ol", { class: "trajectory" }, rows));
}

const SHOWN = new Set(["task_id", "task", "setup_commands", "success_condition", "generated_command", "raw_response", "reasoning", "finish_reason", "usage", "latency_s", "command_output", "command_exit_code", "test_exit_code", "test_output", "setup_output", "trajectory", "start_time", "end_time", "durations", "error", "status", "overall_success", "command_success", "test_passed", "model", "exited", "timed_out", "test_timed_out", "limit", "output_truncated", "tags", "difficulty_level"]);

function rest(record) {
  const entries = Object.entries(record).filter(([name, value]) => !SHOWN.has(name) && value !== false);
  const rows = entries.map(([name, value]) => el("div", {}, el("dt", {}, plain(name)), el("dd", {}, shown(typeof value === "string" ? value : JSON.stringify(value)))));
  return el("details", { class: "part" }, el("summary", {}, "Record"), el("dl", { class: "settings" }, rows));
}

const quoted = (word) => /^[\w@%+=:,.\/-]+$/.test(word) ? word : "'" + word.replaceAll("'", `'"'"'`) + "'";

// the item's name, as pytest and shelleval reproduce know it
function nameOf(row) {
  const parts = [several.model ? nameAt("model", row) : null, several.sample ? COLUMN.sample[row] : null].filter((each) => each !== null);
  return COLUMN.id[row] + (parts.length ? "[" + parts.join("-").replaceAll("::", ":") + "]" : "");
}

function reproduction(record, row) {
  if (!record.generated_command || STATUS[COLUMN.status[row]] === "passed") return null;
  return part("Reproduce", "opens the sandbox after setup and command", text(`shelleval reproduce ${DATA.results} ${quoted(nameOf(row))}`, "shell"));
}

function outcome(record) {
  return [
    record.error ? part("Error", record.error_kind ?? "inference", text(record.error, "bad")) : null,
    part("Command", exitNote(record, "command"), record.generated_command ? text(record.generated_command, "shell") : el("p", { class: "nothing" }, "there is none"),
      record.command_output ? text(record.command_output) : null),
    part("Condition’s output", exitNote(record, "test"), record.test_output ? text(record.test_output) : el("p", { class: "nothing" }, "(nothing)")),
    reply(record),
    times(record),
  ];
}

function statusOf(record) {
  if (record.status) return Math.max(0, STATUS.indexOf(record.status));
  return record.generated_command === undefined ? 2 : record.overall_success ? 0 : 1;
}

function others(row) {
  const rows = [];
  for (let r = 0; r < COUNT; r++) if (COLUMN.id[r] === COLUMN.id[row]) rows.push(r);
  if (rows.length < 2) return null;
  return el("nav", { class: "others", "aria-label": "Results of this task" }, rows.map((r) =>
    el("a", { href: hash(r), "aria-current": r === row ? "true" : null, class: STATUS[COLUMN.status[r]] },
      GLYPH[COLUMN.status[r]] + " " + plain([several.model && nameAt("model", r), several.sample && "#" + COLUMN.sample[r]].filter(Boolean).join(" ")))));
}

function body(row, record, before) {
  const condition = part("Success condition", null, text(record.success_condition, "shell"));
  const setup = (record.setup_commands ?? []).length
    ? part("Setup", null, [record.setup_commands].flat().map((c) => text(c, "shell")), record.setup_output ? text(record.setup_output) : null) : null;
  const now = el("div", { class: "side" }, before ? el("h3", { class: "run" }, "This run ", badge(COLUMN.status[row])) : null, outcome(record), trajectory(record), rest(record));
  const then = before ? el("div", { class: "side" }, el("h3", { class: "run" }, "Baseline ", badge(statusOf(before))), outcome(before), trajectory(before), rest(before)) : null;
  return el("div", { class: "body" },
    part("Task", null, el("p", { class: "task" }, shown(record.task ?? ""))), setup, condition, reproduction(record, row),
    el("div", { class: then ? "sides" : "" }, then, now));
}

async function show(row) {
  open = row;
  const at = view.indexOf(row);
  const labels = [several.model && nameAt("model", row), several.sample && "sample " + COLUMN.sample[row], nameAt("level", row), ...COLUMN.tags[row].map((t) => NAMES.tag[t])];
  const head = el("header", {},
    el("div", { class: "row" }, badge(COLUMN.status[row]), el("h2", { id: "detail-title" }, plain(COLUMN.id[row])),
      el("span", { class: "tools" },
        el("button", { type: "button", id: "previous", disabled: at <= 0, title: "Previous (←)" }, "←"),
        el("span", { class: "sub" }, at < 0 ? "" : `${at + 1} of ${view.length}`),
        el("button", { type: "button", id: "next", disabled: at < 0 || at === view.length - 1, title: "Next (→)" }, "→"),
        el("button", { type: "button", id: "close", title: "Close (Esc)" }, "Close"))),
    el("p", { class: "sub" }, labels.filter(Boolean).map((l) => el("span", { class: "label" }, plain(l)))),
    reasonText(row) ? el("p", { class: "reason " + STATUS[COLUMN.status[row]] }, plain(reasonText(row))) : null,
    others(row));
  const focused = dialog.contains(document.activeElement) ? document.activeElement.id : "";
  dialog.replaceChildren(head, el("p", { class: "sub loading" }, "Unpacking…"));
  if (!dialog.open) {
    cameFrom = document.activeElement;
    dialog.showModal();
  }
  const wanted = focused && $("#" + focused, dialog);
  (wanted && !wanted.disabled ? wanted : $("#close", dialog)).focus();
  let content;
  try {
    content = body(row, ...(await recordOf(row)));
  } catch (error) {
    content = el("p", { class: "notice bad" }, "This record can't be unpacked: " + error);
  }
  if (open !== row) return; // a later one was asked for meanwhile
  $(".loading", dialog)?.remove();
  dialog.append(content);
  dialog.scrollTop = 0;
}

function find(parts) {
  let found = null;
  for (let row = 0; row < COUNT; row++) {
    if (COLUMN.id[row] !== parts.get("task")) continue;
    found ??= row;
    const model = !parts.has("model") || nameAt("model", row) === parts.get("model");
    const sample = !parts.has("sample") || String(COLUMN.sample[row]) === parts.get("sample");
    if (model && sample) return row;
  }
  return found;
}

function route() {
  const parts = location.hash === "#results" ? null : read(location.hash);
  if (parts === null) {
    if (dialog.open) dialog.close();
    draw();
    return;
  }
  const row = find(parts);
  if (row !== null) show(row);
  else {
    if (dialog.open) dialog.close();
    $("#shown").textContent = "There is no task " + plain(parts.get("task"));
  }
}

function step(by) {
  const to = view[view.indexOf(open) + by];
  if (to === undefined || !view.includes(open)) return;
  history.replaceState(null, "", hash(to)); // not location: its event comes late, and a quick second key would be lost
  show(to);
}

dialog.addEventListener("close", () => {
  const row = open;
  open = null;
  history.replaceState(null, "", hash());
  const page = Math.floor(view.indexOf(row) / PAGE);
  if (page >= 0 && page !== state.page) {
    state.page = page;
    draw();
  }
  ($(`#table a[data-row="${row}"]`) ?? cameFrom)?.focus();
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog || event.target.id === "close") dialog.close();
  else if (event.target.id === "previous") step(-1);
  else if (event.target.id === "next") step(1);
});
dialog.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("pre, input, select")) return;
  if (event.key === "ArrowLeft" || event.key === "k") step(-1);
  else if (event.key === "ArrowRight" || event.key === "j") step(1);
});
addEventListener("hashchange", route);
draw();
route();
