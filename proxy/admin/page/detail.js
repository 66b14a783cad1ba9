"use strict";
/* ---------------------------------------------------------------- one row, with all that is known

It stays open beside the table and follows what happens to the row. */

let detail = null;

function openDetail(row, byKeyboard) {
  const opens = !detail;
  detail = {key: rowKey(row), row, name: view.name};
  drawDetail();
  if (opens) refit();
  if (byKeyboard) $("#detail h2").focus();
}

function closeDetail() {
  if (!detail) return;
  const line = [...$("tbody").rows].find((one) => one.row && rowKey(one.row) === detail.key);
  const within = $("#detail").contains(document.activeElement);
  detail = null;
  drawDetail();
  refit();
  if (within) (line ?? $("tbody").rows[0])?.focus();
}

function drawDetail() {
  const panel = $("#detail");
  panel.hidden = !detail;
  for (const line of $("tbody").rows) {
    set(line, "aria-current", detail && rowKey(line.row) === detail.key ? "true" : null);
  }
  if (!detail) return;
  const now = rowsShown.find((row) => rowKey(row) === detail.key);
  if (now) detail.row = now;
  const row = detail.row;
  const kind = VIEWS[detail.name];
  say($("#detail h2"), kind.name?.(row) ?? whose(row));
  say($("#detail-gone"), now ? "" : "No longer among the rows: this is what was last known.");
  const facts = [...columns(kind).map((one) => [one.title, one.cell(row), one.full?.(row) ?? ""]),
    ...(kind.more?.(row) ?? [])].filter(([, value]) => String(value ?? "") !== "");
  patch($("#facts"), facts, ([title]) => title, ([title]) => {
    const line = make("div");
    line.append(make("dt", title), make("dd"));
    return line;
  }, (line, [title, value, full]) => {
    const [, told] = line.children;
    // An id is there whole, to be copied.
    if (title === "Session") tell(told, row.session);
    else if (full) tell(told, (Array.isArray(value) ? value[0] : value) + ", " + full);
    else tell(told, value);
    told.classList.toggle("mono", ["Session", "uid", "Cursor"].includes(title));
  });
  patch($("#ways"), kind.links?.(row) ?? [], ([words]) => words, () => {
    const line = make("li");
    line.append(make("a"));
    return line;
  }, (line, [words, href]) => {
    say(line.firstChild, words);
    set(line.firstChild, "href", href);
  });
  drawActs($("#detail-acts"), row, kind, true);
}
