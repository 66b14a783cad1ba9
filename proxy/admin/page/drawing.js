"use strict";
/* ---------------------------------------------------------------- drawing */

function drawStatus(now) {
  const status = $("#status");
  status.className = "pill " + (now.ready ? "good" : "bad");
  status.textContent = now.ready ? "ready" : clean(now.reason);
  $("#about").textContent = clean(now.version) + ", up " + span(now.uptime_seconds);
  const oldest = (count, seconds, word) => count ? word + " " + span(seconds) : "";
  const cards = [
    ["Sessions", now.sessions, "of " + number(now.sessions_limit) + " at most"],
    ["Open transactions", now.transactions,
      [oldest(now.transactions, now.transactions_oldest_seconds, "oldest"),
        oldest(now.transactions_idlest_seconds, now.transactions_idlest_seconds, "longest idle")]
        .filter(Boolean).join(", ")],
    ["Open cursors", now.cursors, oldest(now.cursors, now.cursors_oldest_seconds, "oldest")],
    ["Commands in flight", now.operations,
      oldest(now.operations, now.operations_oldest_seconds, "longest")],
    ["Client connections", now.connections, "of " + number(now.connections_limit) + " at most"],
  ];
  $("#cards").replaceChildren(...cards.map(([title, count, note]) => {
    const card = make("div", null, {class: "card"});
    card.append(make("span", title), make("b", number(count)), make("div", note, {class: "note"}));
    return card;
  }));
}

function drawAttention(now, groups, idlest, incidents) {
  const items = [];
  const item = (level, text, label, open) => items.push({level, text, label, open});
  for (const one of now.clusters ?? [now]) {
    if (one.sessions >= 0.8 * one.sessions_limit) {
      item("bad", (one.cluster ? one.cluster + ": " : "") + plural(one.sessions, "session")
        + ": nearly as many as there may be.", "Who",
        () => show("groups", one.cluster ? {cluster: one.cluster} : {}));
    }
  }
  for (const group of groups) {
    if (group.budget_used >= 0.8) {
      item(group.budget_used >= 1 ? "bad" : "warn", whose(group) + ": "
        + Math.round(group.budget_used * 100) + " % of the session budget used ("
        + plural(group.sessions, "session") + ").", "Sessions", () => VIEWS.groups.open(group));
    }
  }
  for (const one of idlest.filter((row) => row.idle_seconds >= 30)) {
    item("bad", whose(one) + ": a transaction has been idle for " + span(one.idle_seconds)
      + ". It holds locks and old data until it ends.", "Transactions",
      () => show("transactions", {}, "-idle"));
  }
  const many = groups[0];
  if (many && many.sessions >= 1000 && many.sessions >= 0.5 * now.sessions) {
    item("warn", whose(many) + " has " + plural(many.sessions, "session")
      + ", most of all. Does it end them?", "Sessions", () => VIEWS.groups.open(many));
  }
  for (const one of incidents.filter((row) => row.age_seconds < 900).slice(0, 3)) {
    item("warn", whose(one) + ": " + incident(one) + ", " + span(one.age_seconds) + " ago.",
      "Incidents", () => show("incidents", {}));
  }
  $("#attention").replaceChildren(...items.slice(0, 6).map(({level, text, label, open}) => {
    const line = make("li", null, {class: level});
    const button = make("button", label, {type: "button"});
    button.addEventListener("click", open);
    line.append(make("span", text), button);
    return line;
  }));
}

function drawTabs() {
  $("nav").replaceChildren(...Object.entries(VIEWS).map(([name, kind]) => {
    const tab = make("button", kind.title,
      {role: "tab", "aria-selected": String(name === view.name), type: "button"});
    tab.addEventListener("click", () => show(name, ofCluster({cluster: cluster()})));
    return tab;
  }));
}

const LABELS = {text: "Search everywhere", owner: "Owner", user: "User", application: "Application",
  driver: "Driver", client: "Client"};

function drawFilters() {
  const kind = VIEWS[view.name];
  const fields = kind.filters.map((name) => {
    const label = make("label", LABELS[name], name === "text" ? {class: "wide"} : {});
    const input = make("input", null, {type: "search", name, spellcheck: "false",
      placeholder: name === "text" ? "name, session, command…" : "any, or a*b"});
    const value = view.filters[name];
    input.value = value === undefined ? "" : typeof value === "string" ? value : value.exactly;
    input.addEventListener("input", () => narrow(name, input.value));
    label.append(input);
    return label;
  });
  if (clusters().length && !kind.whole) {
    const label = make("label", "Cluster");
    const select = make("select", null, {name: "cluster"});
    select.append(make("option", "all", {value: ""}));
    for (const name of clusters()) select.append(make("option", name, {value: name}));
    select.value = cluster();
    select.addEventListener("change",
      () => narrow("cluster", select.value && {exactly: select.value}));
    label.append(select);
    fields.unshift(label);
  }
  if (kind.states.length) {
    const label = make("label", "State");
    const select = make("select", null, {name: "state"});
    select.append(make("option", "any", {value: ""}));
    for (const state of kind.states) select.append(make("option", STATES[state], {value: state}));
    select.value = view.filters.state ?? "";
    select.addEventListener("change", () => narrow("state", select.value));
    label.append(select);
    fields.push(label);
    const clear = make("button", "Clear", {type: "button"});
    clear.addEventListener("click", () => show(view.name, {}));
    fields.push(clear);
  }
  $("#filters").replaceChildren(...fields);
}

function drawHead() {
  const kind = VIEWS[view.name];
  const row = make("tr");
  if (kind.kill) {
    const head = make("th");
    const all = make("input", null, {type: "checkbox", "aria-label": "Choose all on this page"});
    all.addEventListener("change", () => {
      for (const box of document.querySelectorAll("tbody input")) {
        if (box.checked !== all.checked) box.click();
      }
    });
    head.append(all);
    row.append(head);
  }
  for (const one of columns(kind)) {
    const head = make("th", null, {scope: "col", class: one.number ? "number" : ""});
    if (one.tip) head.title = one.tip;
    if (one.sort) {
      const button = make("button", one.title, {type: "button"});
      button.addEventListener("click", () => order(one));
      head.append(button);
      if (view.sort === one.sort) head.setAttribute("aria-sort", "ascending");
      if (view.sort === "-" + one.sort) head.setAttribute("aria-sort", "descending");
    } else {
      head.textContent = one.title;
    }
    row.append(head);
  }
  $("thead").replaceChildren(row);
}

function drawRows(rows) {
  const kind = VIEWS[view.name];
  $("tbody").replaceChildren(...rows.map((row) => drawRow(kind, row)));
  const empty = $(".empty");
  empty.hidden = rows.length > 0;
  empty.textContent = Object.keys(filters()).length ? "Nothing matches the filters." : kind.empty;
  const start = (view.page - 1) * ROWS;
  $("#count").textContent = kind.whole || !rows.length ? ""
    : number(start + 1) + "–" + number(start + rows.length) + " of " + number(found.matched)
      + (found.total > found.matched ? " that match, " + number(found.total) + " in all" : "");
  $("#first").hidden = kind.whole || view.page === 1;
  $("#next").hidden = kind.whole || !found.next;
  drawKill();
}

function drawRow(kind, row) {
  const line = make("tr", null, {class: kind.level?.(row) || (kind.open ? "open" : "")});
  if (kind.kill) {
    const key = row.session + " " + row.uid + " " + (row.cluster ?? "");
    const cell = make("td");
    const box = make("input", null, {type: "checkbox", "aria-label": "Choose this session"});
    box.checked = chosen.has(key);
    box.addEventListener("change", () => {
      if (box.checked) chosen.set(key, {session: row.session, uid: row.uid});
      else chosen.delete(key);
      drawKill();
    });
    cell.append(box);
    line.append(cell);
  }
  for (const one of columns(kind)) {
    const value = one.cell(row);
    const cell = make("td", Array.isArray(value) ? null : value, {class:
      [one.number && "number", one.mono && "mono", one.long && "long"].filter(Boolean).join(" ")});
    if (Array.isArray(value)) cell.append(make("span", value[0], {class: "pill " + value[1]}));
    cell.title = one.full ? clean(one.full(row)) : cell.textContent;
    line.append(cell);
  }
  if (kind.open) {
    line.addEventListener("click", () => kind.open(row));
    line.title = "Show the sessions";
  }
  return line;
}

function drawKill() {
  const button = $("#kill");
  button.hidden = !VIEWS[view.name].kill;
  // What is killed is killed in one cluster.
  const several = clusters().length > 0 && !cluster();
  button.disabled = (!chosen.size && !found.matched) || several;
  button.title = several ? "Choose a cluster first" : "";
  button.textContent = chosen.size ? "Kill " + plural(chosen.size, "chosen session") + "…"
    : Object.keys(filters()).length ? "Kill " + plural(found.matched, "matching session") + "…"
      : (found.matched === 1 ? "Kill " : "Kill all ") + plural(found.matched, "session") + "…";
}
