"use strict";
/* ---------------------------------------------------------------- by keyboard

One row at a time is in the order of Tab, with what is in it; arrows go from row to row. */

let current = null;

function keepCurrent(wanted) {
  const lines = [...$("tbody").rows];
  const next = wanted ?? (lines.includes(current) ? current : lines[0] ?? null);
  for (const line of lines) {
    const tab = line === next ? 0 : -1;
    if (line.tabIndex !== tab) line.tabIndex = tab;
    for (const control of line.querySelectorAll("button, input, a")) control.tabIndex = tab;
  }
  current = next;
}

function startKeys() {
  const body = $("tbody");
  body.addEventListener("focusin", (event) => keepCurrent(event.target.closest("tr")));
  body.addEventListener("click", (event) => {
    const line = event.target.closest("tr");
    if (!line || event.target.closest("button, a, label")) return;
    if (event.target.matches("input")) choose(line.row, event.target.checked);
    // Whoever selects text does not want to go anywhere.
    else if (document.getSelection().isCollapsed) openDetail(line.row, false);
  });
  body.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const line = event.target.closest("tr");
    const lines = [...body.rows];
    const to = {ArrowDown: line.nextElementSibling, ArrowUp: line.previousElementSibling,
      Home: lines[0], End: lines.at(-1), PageDown: lines[Math.min(lines.indexOf(line) + 10,
        lines.length - 1)], PageUp: lines[Math.max(lines.indexOf(line) - 10, 0)]}[event.key];
    if (to !== undefined) {
      to?.focus();
    } else if (event.target === line && event.key === "Enter") {
      openDetail(line.row, true);
    } else if (event.target === line && event.key === " ") {
      line.querySelector("input")?.click();
    } else {
      return;
    }
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || $("dialog[open]")) return;
    const typing = event.target.matches("input:not([type=checkbox]), select, textarea");
    if (event.key === "Escape") {
      if ($("#columns").open) {
        $("#columns").open = false;
        $("#columns summary").focus();
      } else if (!typing) {
        closeDetail();
      }
    } else if (event.key === "ArrowDown" && current
        && (document.activeElement === document.body || event.target.closest("#filters input, #attention, #cards, #views"))) {
      current.focus();
      event.preventDefault();
    } else if (!typing && event.key === "/" && $("#fields input")) {
      $("#folded").open = true;
      $("#fields input").focus();
      event.preventDefault();
    } else if (!typing && event.key === "?") {
      $("#help-dialog").showModal();
      event.preventDefault();
    }
  });
}
