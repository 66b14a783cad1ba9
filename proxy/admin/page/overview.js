"use strict";
/* ---------------------------------------------------------------- how it is, above the table */

function drawStatus(now) {
  document.body.classList.remove("stale");
  set($("#status"), "class", "pill " + (now.ready ? "good" : "bad"));
  say($("#status"), now.ready ? "ready" : now.reason === "draining" ? "draining" : "not ready");
  say($("#about"), now.version + ", up " + span(now.uptime_seconds));
  drawKey();
}

/* What is shown is old from now on, and looks so. */
function drawFailure(error) {
  const known = heard > 0;
  document.body.classList.toggle("stale", known);
  set($("#status"), "class", "pill bad");
  say($("#status"), error.status ? error.message : "the proxy does not answer");
  if (known) {
    const ago = (Date.now() - heard) / 1000;
    say($("#about"), "what is shown is of " + since(ago) + ", " + span(ago) + " ago");
  }
  if (error.status === 401) {
    if (token) refuseToken();
    if (!$("dialog[open]") && !declined) askForToken();
  }
  if (!VIEWS[view.name].own) drawRows(rowsShown);
}

function drawCards(now) {
  const oldest = (count, seconds, word) => count ? word + " " + span(seconds) : "";
  const cards = [
    ["Sessions", now.sessions, "of " + number(now.sessions_limit) + " at most", link("sessions")],
    ["Transactions", now.transactions,
      [oldest(now.transactions, now.transactions_oldest_seconds, "oldest"),
        oldest(now.transactions_idlest_seconds, now.transactions_idlest_seconds, "idle")]
        .filter(Boolean).join(", "), link("transactions")],
    ["Cursors", now.cursors, oldest(now.cursors, now.cursors_oldest_seconds, "oldest"),
      link("cursors")],
    ["In flight", now.operations,
      oldest(now.operations, now.operations_oldest_seconds, "longest"),
      link("sessions", {state: "operation"}, "-operations")],
    ["Connections", now.connections, "of " + number(now.connections_limit) + " at most",
      link("connections")],
  ];
  patch($("#cards"), cards, ([title]) => title, ([title, , , href]) => {
    const card = make("li");
    const inner = make("a", null, {class: "card", href});
    inner.append(make("span", title), make("b"), make("span", null, {class: "note"}));
    card.append(inner);
    return card;
  }, (card, [, count, note]) => {
    const [, amount, words] = card.firstChild.children;
    say(amount, number(count));
    say(words, note);
  });
}

/* So many are shown at first. */
const mostItems = () => narrowScreen.matches ? 4 : 6;
let allItems = false;

/* Lists of those that have the same key, in the order of the first of each. */
function together(rows, key) {
  const lists = new Map();
  for (const row of rows) lists.set(key(row), [...(lists.get(key(row)) ?? []), row]);
  return [...lists.values()];
}

/* The worst first: each with who it is and a way to what is to be done about it. */
function attention(now, crowds, idlest, incidents, upstream) {
  const items = [];
  const item = (level, key, text, label, href) => items.push({level, key, text, label, href});
  for (const one of now.clusters ?? [now]) {
    const where = one.cluster ? one.cluster + ": " : "";
    if (!one.ready) {
      // Why is said below, of each process that is away.
      const away = upstream.some((row) => row.cluster === one.cluster && row.up === false);
      item("bad", "ready " + where, where + "clients cannot be served"
        + (away && one.reason !== "draining" ? "." : ": " + one.reason + "."), "Upstream", link("upstream", ofCluster(one)));
    }
    const there = upstream.filter((row) => row.cluster === one.cluster);
    const set = there.find((row) => row.set)?.set;
    if (set && !there.some((row) => row.role === "primary")
      && there.some((row) => row.role === "secondary")) {
      item("bad", "primary " + where, where + "the replica set " + set
        + " has no primary that the proxy knows of: writes fail.", "Upstream", link("upstream"));
    }
    if (one.sessions >= 0.8 * one.sessions_limit) {
      item("bad", "sessions " + where, where + plural(one.sessions, "session")
        + ": nearly as many as there may be.", "Who", link("groups", ofCluster(one)));
    }
  }
  if (now.connections >= 0.8 * now.connections_limit) {
    item("bad", "connections", plural(now.connections, "client connection")
      + ": nearly as many as there may be.", "Connections", link("connections"));
  }
  for (const one of upstream.filter((row) => row.up === false && row.problem)) {
    item("bad", "down " + one.upstream, [one.cluster, one.upstream].filter(Boolean).join(": ")
      + (one.set ? " of " + one.set : "") + " has been down since " + since(one.since_seconds)
      + ", for " + span(one.since_seconds) + ": " + one.problem + ".", "Upstream", link("upstream"));
  }
  const theirSessions = (group) => VIEWS.groups.links(group)[0][1];
  // A bound of all that somebody has is reached once, in however many groups that is.
  const bounded = (one) => ({...ofCluster(one),
    ...(one.bound?.endsWith("per_application") ? {application: one.application} : {owner: one.owner})});
  const key = (one) => one.bound + JSON.stringify(bounded(one));
  const budgets = crowds.budget_used.filter((one) => one.budget_used >= 0.8);
  for (const [group, ...others] of together(budgets, key)) {
    item(group.budget_used >= 1 ? "bad" : "warn", "budget " + key(group), whose(group)
      + (others.length ? " and " + plural(others.length, "other group") : "") + ": "
      + Math.round(group.budget_used * 100) + " % of the session budget used ("
      + number(group.used) + " of " + number(group.limit) + ", " + group.bound + ").",
    ...(others.length ? ["Groups", link("groups", bounded(group))] : ["Sessions", theirSessions(group)]));
  }
  const late = idlest.filter((row) => row.idle_seconds >= LONG_IDLE);
  for (const [one, ...others] of together(late, whose)) {
    const [words, filters] = others.length
      ? [`${number(others.length + 1)} transactions have been idle, the longest for `
        + span(one.idle_seconds) + ". They hold locks and old data until they end.",
      {owner: one.owner, application: one.application}]
      : ["a transaction has been idle for " + span(one.idle_seconds)
        + ". It holds locks and old data until it ends.", {session: one.session}];
    item("bad", "idle " + whose(one), whose(one) + ": " + words,
      others.length ? "Transactions" : "Transaction",
      link("transactions", {...ofCluster(one), ...filters}, "-idle"));
  }
  const [most] = crowds.sessions;
  if (most && most.sessions >= 1000 && most.sessions >= 0.5 * now.sessions) {
    item("warn", "many " + whose(most), whose(most) + " has " + plural(most.sessions, "session")
      + ", most of all. Does it end them?", "Sessions", theirSessions(most));
  }
  // What somebody did says more than that it was refused.
  const recent = incidents.filter((row) => row.age_seconds < 900)
    .sort((one, other) => Boolean(one.rule) - Boolean(other.rule));
  const first = (one, at) => recent.findIndex((row) => whose(row) === whose(one)) === at;
  for (const one of recent.slice(0, 100).filter(first)) {
    const others = recent.filter((row) => row !== one && whose(row) === whose(one)).length;
    item("warn", "incident " + VIEWS.incidents.key(one) + (one.cluster ?? ""), whose(one) + ": " + incident(one)
      + (one.count > 1 ? ", " + number(one.count) + " times" : "") + ", "
      + span(one.age_seconds) + " ago" + (others ? "; "
        + plural(others, "other incident") + " of theirs." : "."), "Incidents",
    link("incidents", {...ofCluster(one), ...(one.user || one.application
      ? {text: one.user || one.application} : {})}));
  }
  return items.sort((one, other) => (one.level === "warn") - (other.level === "warn"));
}

let needed = [];
function drawTitle() {
  const alarms = needed.filter((one) => one.level === "bad").length;
  document.title = (alarms ? "(" + alarms + ") " : "") + VIEWS[view.name].title
    + " · mongo-session-proxy";
}

function drawAttention(...all) {
  needed = attention(...all);
  drawTitle();
  drawNeeded();
}

function drawNeeded() {
  const most = mostItems();
  const more = needed.length - most + 1;
  const shown = more <= 1 ? [...needed] : allItems ? [...needed, {level: "warn", key: "more",
    text: "That is all.", label: "Fewer"}]
    : [...needed.slice(0, most - 1), {level: "warn", key: "more",
      text: "And " + more + " more.", label: "All"}];
  if (!shown.length) shown.push({level: "good", key: "", text: "Nothing needs attention."});
  patch($("#attention"), shown, (one) => one.key, ({key}) => {
    const line = make("li");
    line.append(make("span"), key === "more" ? make("button", null, {type: "button", class: "button"})
      : make("a", null, {class: "button"}));
    if (key === "more") line.lastChild.addEventListener("click", () => {
      allItems = !allItems;
      drawNeeded();
    });
    return line;
  }, (line, {level, text, label = "", href = ""}) => {
    const [words, way] = line.children;
    set(line, "class", level);
    say(words, text);
    say(way, label);
    way.hidden = !label;
    set(way, "href", href || null);
  });
}

function drawViews() {
  drawTitle();
  patch($("#views"), Object.entries(VIEWS), ([name]) => name, ([, kind]) => {
    const line = make("li");
    line.append(make("a", kind.title));
    return line;
  }, (line, [name]) => {
    const way = line.firstChild;
    set(way, "href", link(name, cluster() ? {cluster: cluster()} : {}));
    set(way, "aria-current", name === view.name ? "page" : null);
  });
}
