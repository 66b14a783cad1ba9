"use strict";
/* ---------------------------------------------------------------- the table, and what narrows it */

const CHOOSE = {title: "Choose", control: true, rank: 0};
const ACT = {title: "Actions", control: true, rank: 4, cell: () => "…"};

/* All that does not depend on an answer. */
function drawFrame() {
  drawViews();
  drawFilters();
  const {own} = VIEWS[view.name];
  $("#both").hidden = $("#bar").hidden = Boolean(own);
  $("#own").hidden = !own;
  if (own) return;
  hidden.clear();
  drawChoice();
  drawHead();
}

/* ---- filters */

const LABELS = {text: "Search everywhere", owner: "Owner", user: "User", application: "Application",
  driver: "Driver", client: "Client", state: "State", cluster: "Cluster", session: "Session",
  conn: "Conn", namespace: "Namespace", upstream: "Upstream", uid: "Uid",
  min_age: "Age at least", min_idle: "Idle at least"};

function drawFilters() {
  const kind = VIEWS[view.name];
  const names = [...(clusters().length ? ["cluster"] : []), ...kind.filters,
    ...(kind.states.length ? ["state"] : [])];
  // Those that only a link can set are shown too, so that they can be cleared.
  const apart = kind.apart ?? [];
  const others = Object.keys(view.filters)
    .filter((name) => !names.includes(name) && !apart.includes(name));
  const options = {state: kind.states.map((state) => [state, STATES[state]]),
    cluster: clusters().map((name) => [name, name])};
  patch($("#fields"), [...names, ...others], (name) => name, (name) => {
    const label = make("label", LABELS[name] ?? name, name === "text" ? {class: "wide"} : {});
    const field = options[name] ? make("select", null, {name})
      : make("input", null, {type: "search", name, spellcheck: "false", autocapitalize: "off",
        placeholder: name === "text" ? "name, session, command…" : "any, or a*b"});
    field.addEventListener(options[name] ? "change" : "input", () => narrow(name, field.value));
    label.append(field);
    return label;
  }, (label, name) => {
    const field = label.lastChild;
    const asked = view.filters[name];
    if (options[name]) {
      const choices = [["", name === "state" ? "any" : "all"], ...options[name]];
      if (asked && !choices.some(([value]) => value === asked)) choices.push([asked, asked]);
      patch(field, choices, ([value]) => value, ([value]) => make("option", null, {value}),
        (option, [, words]) => say(option, words));
    }
    if (document.activeElement !== field || options[name]) {
      field.value = asked === undefined ? "" : typed(name, asked);
    }
  });
  $("#filters").hidden = !names.length && !others.length;
  const count = Object.keys(view.filters).length;
  $("#clear").hidden = !count;
  say($("#folded summary"), count ? "Filters (" + count + ")" : "Filters");
}

/* ---- which columns there is room for, and which are wanted */

const hidden = new Set();

function picked(name = view.name) {
  try {
    return JSON.parse(localStorage.getItem("columns " + name));
  } catch {
    return null;
  }
}

function pick(titles) {
  try {
    if (titles) localStorage.setItem("columns " + view.name, JSON.stringify(titles));
    else localStorage.removeItem("columns " + view.name);
  } catch {
    // Then it is not remembered.
  }
  hidden.clear();
  drawChoice();
  drawHead();
  loop();
}

function shownColumns() {
  const kind = VIEWS[view.name];
  const wanted = picked();
  const those = columns(kind).filter((one) => !hidden.has(one.title)
    && (!Array.isArray(wanted) || wanted.includes(one.title)));
  const acts = kind.acts.length > 0 && !hidden.has(ACT.title);
  return [...(kind.kills ? [CHOOSE] : []), ...those, ...(acts ? [ACT] : [])];
}

/* There is another width than before. */
function refit() {
  hidden.clear();
  drawHead();
  drawRows(rowsShown);
}

/* Leave out a column that there is no room for, an empty one or else the least important; whether
one was. */
function fit() {
  const box = $(".table");
  if (picked() || box.scrollWidth <= box.clientWidth) return false;
  const vain = (one) => rowsShown.every((row) => String(one.cell(row)) === "");
  const weight = (one) => one.rank + (vain(one) ? 10 : 0);
  const least = shownColumns().filter((one) => one.rank > 1)
    .reduce((most, one) => !most || weight(one) >= weight(most) ? one : most, null);
  if (!least) return false;
  hidden.add(least.title);
  return true;
}

function drawChoice() {
  const all = columns(VIEWS[view.name]);
  const wanted = picked();
  patch($("#choice"), all, (one) => view.name + one.title, (one) => {
    const label = make("label", null, {class: "inline"});
    const box = make("input", null, {type: "checkbox"});
    box.addEventListener("change", () => {
      const boxes = [...document.querySelectorAll("#choice input")];
      pick(columns(VIEWS[view.name]).map((each) => each.title).filter((_, at) => boxes[at].checked));
    });
    label.append(box, make("span", one.title));
    return label;
  }, (label, one) => {
    label.firstChild.checked = Array.isArray(wanted) ? wanted.includes(one.title)
      : !hidden.has(one.title);
  });
  $("#fitting").disabled = !wanted;
}

/* ---- heads and rows */

function drawHead() {
  patch($("thead tr"), shownColumns(), (one) => view.name + one.title, (one) => {
    const head = make("th", null, {scope: "col"});
    if (one === CHOOSE) {
      const all = make("input", null, {type: "checkbox", "aria-label": "Choose all on this page"});
      all.addEventListener("change", () => {
        for (const box of document.querySelectorAll("tbody input")) {
          if (box.checked !== all.checked) box.click();
        }
      });
      head.append(all);
      return head;
    }
    if (one.number) head.className = "number";
    if (one.tip) head.title = one.tip;
    if (one.sort) {
      const button = make("button", one.title, {type: "button"});
      button.addEventListener("click", () => order(one));
      head.append(button);
    } else {
      head.append(make("span", one.title, {class: one === ACT ? "unseen" : ""}));
    }
    return head;
  }, (head, one) => {
    const sorted = one.sort && view.sort === one.sort ? "ascending"
      : one.sort && view.sort === "-" + one.sort ? "descending" : null;
    set(head, "aria-sort", sorted);
    if (one === CHOOSE) head.firstChild.checked = false;
  });
  say($("caption"), VIEWS[view.name].title);
  set($(".table"), "aria-label", VIEWS[view.name].title);
}

let rowsShown = [];

/* Those of another view, until there is an answer for this one. */
function forgetRows() {
  rowsShown = [];
  patch($("tbody"), [], String, makeRow, fillRow);
  $(".empty").hidden = true;
}

function drawRows(rows) {
  rowsShown = rows;
  const focused = $(".table").contains(document.activeElement);
  const kind = VIEWS[view.name];
  const key = (row) => view.name + " " + rowKey(row);
  patch($("tbody"), rows, key, makeRow, fillRow);
  while (fit()) {
    drawHead();
    patch($("tbody"), rows, key, makeRow, fillRow);
  }
  drawChoice();
  const empty = $(".empty");
  empty.hidden = rows.length > 0;
  say(empty, found.wrong ? "This cannot be shown: " + found.wrong
    : Object.keys(view.filters).length ? "Nothing matches the filters." : kind.empty);
  keepCurrent();
  if (focused) goOn();
  drawDetail();
  drawBar();
}

const rowKey = (row) => VIEWS[view.name].key(row) + " " + (row.cluster ?? "");

function makeRow() {
  const line = make("tr");
  line.tabIndex = -1;
  return line;
}

function fillRow(line, row) {
  const kind = VIEWS[view.name];
  line.row = row;
  set(line, "class", kind.level?.(row) || null);
  patch(line, shownColumns(), (one) => one.title, (one) => makeCell(one, row), (cell, one) => {
    if (one === CHOOSE) {
      cell.firstChild.checked = chosen.has(rowKey(row));
    } else if (one === ACT) {
      drawActs(cell, row, kind, false);
    } else {
      tell(cell, one.cell(row));
      const full = one.full ? clean(one.full(row)) : cell.textContent;
      if (cell.title !== full) cell.title = full;
    }
  });
}

function makeCell(one, row) {
  const cell = make("td", null, {class:
    [one.number && "number", one.mono && "mono", one.long && "long", one.control && "control"].filter(Boolean).join(" ")});
  if (one === CHOOSE) {
    const box = make("input", null, {type: "checkbox", tabindex: "-1",
      "aria-label": "Choose the session " + row.session.slice(0, 8) + " of " + (row.owner || NOBODY)});
    cell.append(box);
  }
  return cell;
}

function choose(row, yes) {
  if (yes) chosen.set(rowKey(row), row);
  else chosen.delete(rowKey(row));
  drawBar();
}

/* ---- the bar below */

function drawBar() {
  const kind = VIEWS[view.name];
  const start = (view.page - 1) * ROWS;
  const count = rowsShown.length;
  say($("#count"), kind.whole || !count ? "" : number(start + 1) + "–" + number(start + count)
    + " of " + number(found.matched)
    + (found.total > found.matched ? " that match, " + number(found.total) + " in all" : ""));
  const [words, event] = kind.beside ?? [""];
  say($("#beside"), words);
  $("#beside").hidden = !words;
  set($("#beside"), "href", words && link("history",
    {...(cluster() ? {cluster: cluster()} : {}), event, since: "1d"}));
  $("#first").hidden = Boolean(kind.whole) || view.page === 1;
  $("#next").hidden = Boolean(kind.whole) || !found.next;
  drawKill();
}
