"use strict";
/* ---------------------------------------------------------------- what is shown

A column: heading, what the cell holds (a text, or [text, class of a pill]), name to sort by, and
whether it is a number, what the heading's tip says, what the cell's says (`full`), and its `rank`:
where there is no room for all, those of the highest give way. Numbers, and what has `most` to say at
its other end, are sorted from there first. A view that comes whole is sorted here, by what `by` says. */

const column = (title, cell, sort, options = {}) => ({title, cell, sort, rank: 5, ...options});
const NUMBER = {number: true};
const LOCAL = "In local time, as in the history";
/* How long something has been going on: the tip says since when. */
const lasting = (title, seconds, sort, options = {}) => column(title, (r) => span(seconds(r)), sort,
  {number: true, full: (r) => seconds(r) > 0 ? "since " + since(seconds(r)) : "", ...options});

const OWNER = column("Owner", (r) => person(r.owner), "owner", {tip: "Whom it belongs to", rank: 1});
const USER = column("User", (r) => person(r.user), "user", {tip: "Who is logged in", rank: 1});
const APPLICATION = column("Application", (r) => r.application || ["none", "dim"], "application",
  {tip: "application.name, as the driver was configured", rank: 2});
const DRIVER = column("Driver", driver, "driver", {rank: 8});
const CLIENT = column("Client", (r) => r.client ?? "", "client",
  {tip: "Where it comes from", rank: 6});
const SESSION = column("Session", (r) => (r.session ?? "").slice(0, 8), "session",
  {mono: true, rank: 6, full: (r) => r.session ?? ""});
const FLIGHT = column("In flight", operations, "operations",
  {tip: "Commands that have no reply yet, and for how long", rank: 3, most: true});
const UPSTREAM = column("Upstream", (r) => r.upstream, null, {rank: 9});
const CONN = column("Conn", (r) => r.conn ?? "", null,
  {number: true, tip: "The connection's number, as in the logs", rank: 9});
/* Before the others where the proxy has several clusters. */
const CLUSTER = column("Cluster", (r) => r.cluster, "cluster",
  {tip: "The upstream cluster", rank: 2});
const clusters = () => (summary.clusters ?? []).map((one) => one.cluster);
const ofCluster = (row) => row.cluster ? {cluster: row.cluster} : {};
const columns = (kind) => !clusters().length ? kind.columns
  : [kind.whole ? {...CLUSTER, sort: null} : CLUSTER, ...kind.columns];

const LONG_IDLE = 30;
const idle = (seconds) => seconds >= LONG_IDLE ? [span(seconds), "bad"] : span(seconds);

function transaction(row) {
  if (row.transaction === "in progress") {
    const idle = row.transaction_idle_seconds;
    const text = "open " + span(row.transaction_seconds) + (idle >= 10 ? ", idle " + span(idle) : "");
    return [text, idle >= LONG_IDLE ? "bad" : "warn"];
  }
  return row.transaction && row.transaction !== "none" ? row.transaction : "";
}

function share(used) {
  if (used === null || used === undefined) return "";
  return [Math.round(used * 100) + " %", used >= 1 ? "bad" : used >= 0.8 ? "warn" : "good"];
}

/* Where a row leads: words, and what is looked at there. */
function theirs(row) {
  const user = row.owner ?? row.user ?? "";
  const said = {...(user ? {user} : {}), ...(row.application ? {application: row.application} : {})};
  const text = user || row.application;
  return [
    ["Sessions of this owner", link("sessions", {...ofCluster(row), owner: user})],
    ["Their connections", link("connections", {...ofCluster(row), user})],
    ...(text ? [["Their incidents", link("incidents", {...ofCluster(row), text})],
      ["Their history", link("history", {...ofCluster(row), ...said})]] : []),
  ];
}
const itsHistory = (row) => [
  "Its history", link("history", {...ofCluster(row), session: row.session})];
const theSession = (row) => [
  "The session", link("sessions", {...ofCluster(row), session: row.session})];
const theConnection = (row) => row.conn === undefined || row.conn === null ? []
  : [["The connection", link("connections", {...ofCluster(row), conn: String(row.conn)})]];

const STATES = {
  operation: "with a command in flight", transaction: "in a transaction",
  requests: "in use", monitor: "a driver's monitor", opened: "only opened",
  cursor: "with an open cursor", idle: "idle", live: "with a place in the budget",
  ended: "ended by their owner", killed: "killed",
};

/* A view is called as its page of JSON, and the list in that, and has its title; what it sorts by;
what tells its rows apart; the `name` of a row that is nobody's; filters, states and columns; `links`
from a row to other views; events of the history that stand `beside` it, with what they are called; and
what is said where there is nothing. A `whole` one has neither pages nor filters upstream of the page.
One that is no table has `own` instead, which draws it in the element that it is given, with each
refresh. */
const VIEWS = {
  sessions: {
    title: "Sessions", sort: "activity", kills: "matching",
    acts: [KILL, ABORT, INTERRUPT],
    key: (r) => r.session + " " + r.uid,
    level: (r) => r.transaction_idle_seconds >= LONG_IDLE ? "alarm"
      : r.transaction_seconds !== undefined ? "warning" : "",
    filters: ["text", "owner", "application", "driver", "client"],
    states: ["operation", "transaction", "cursor", "idle", "live", "ended", "killed"],
    columns: [OWNER, APPLICATION, DRIVER, CLIENT,
      lasting("Age", (r) => r.age_seconds, "age", {tip: "Since its first use", rank: 7}),
      column("Idle", (r) => r.operations.length ? "in use" : span(r.idle_seconds), "idle",
        {...NUMBER, tip: "Since its last use", rank: 4,
          full: (r) => r.operations.length ? "" : "since " + since(r.idle_seconds)}),
      column("Transaction", transaction, "transaction", {rank: 2, most: true,
        full: (r) => r.transaction_seconds ? "since " + since(r.transaction_seconds) : ""}),
      column("Cursors", (r) => r.cursors || "", "cursors",
        {...NUMBER, tip: "Open cursors", rank: 7}),
      FLIGHT,
      column("Ended", (r) => r.ended ?? "", null,
        {tip: "Ended or killed, and not used since", rank: 6}),
      SESSION],
    more: (r) => [["uid", r.uid], ["txnNumber", r.txn_number],
      ["Statements", r.statements], ["Open child transactions", r.child_transactions],
      ["Upstream", [...new Set(r.operations.map((one) => one.upstream))].join(", ")]],
    links: (r) => [["Its transactions", link("transactions", {...ofCluster(r), session: r.session})],
      ["Its cursors", link("cursors", {...ofCluster(r), session: r.session})],
      itsHistory(r),
      ...r.operations.slice(0, 1).flatMap((one) => theConnection({...r, conn: one.conn})),
      ...theirs(r)],
    empty: "No sessions. They appear with a driver's first command through the proxy.",
  },
  groups: {
    title: "Groups", sort: "-sessions",
    key: (r) => [r.owner, r.application, r.driver, r.driver_version].join("\0"),
    filters: ["text", "owner", "application", "driver"],
    states: ["operation", "transaction", "cursor"],
    columns: [OWNER, APPLICATION, DRIVER,
      column("Live", (r) => number(r.live), "live", {...NUMBER, rank: 2,
        tip: "Sessions that have a place: not ended or killed, or with something open"}),
      column("Sessions", (r) => number(r.sessions), "sessions", {...NUMBER, rank: 2,
        tip: "All that are known, with those that were ended or killed"}),
      column("Owner's live", (r) => number(r.owner_live), "owner_live", {...NUMBER, rank: 6}),
      column("Owner's in all", (r) => number(r.owner_sessions), "owner_sessions",
        {...NUMBER, rank: 7}),
      column("Budget used", (r) => share(r.budget_used), "budget_used",
        {...NUMBER, tip: "The share of the bound that is nearest to be reached", rank: 3}),
      column("Bound", (r) => r.bound ? `${number(r.used)} of ${number(r.limit)}: ${r.bound}` : "",
        null, {tip: "How many there are and may be, by which setting of the rule session_budget",
          rank: 5}),
      column("Transactions", (r) => r.transactions || "", "transactions", {...NUMBER, rank: 4}),
      column("Cursors", (r) => r.cursors || "", "cursors", NUMBER),
      column("In flight", (r) => r.operations || "", "operations", NUMBER),
      lasting("Oldest", (r) => r.oldest_seconds, "oldest", {tip: "First use", rank: 7}),
      lasting("Longest idle", (r) => r.idlest_seconds, "idlest", {rank: 6})],
    links: (r) => [["Sessions", link("sessions", {...ofCluster(r), owner: r.owner,
      application: r.application, driver: r.driver})], ...theirs(r)],
    acts: [{title: "Sessions", name: (r) => "Sessions of " + whose(r),
      href: (r) => VIEWS.groups.links(r)[0][1]}],
    empty: "Nobody has a session.",
  },
  transactions: {
    title: "Transactions", sort: "-age", kills: "chosen",
    acts: [ABORT, KILL, INTERRUPT],
    key: (r) => [r.session, r.uid, r.child].join(" "),
    level: (r) => r.idle_seconds >= LONG_IDLE ? "alarm" : "",
    filters: ["text", "owner", "application", "driver", "client"], states: ["operation", "idle"],
    columns: [OWNER, APPLICATION, DRIVER, CLIENT,
      lasting("Open for", (r) => r.age_seconds, "age", {rank: 2}),
      column("Idle", (r) => idle(r.idle_seconds), "idle", {...NUMBER, rank: 3,
        full: (r) => r.idle_seconds ? "since " + since(r.idle_seconds) : ""}),
      column("txnNumber", (r) => r.child ? r.txn_number + " (child)" : r.txn_number, "txn_number",
        {...NUMBER, rank: 9}),
      column("Statements", (r) => r.statements, null,
        {...NUMBER, tip: "Its commands that have succeeded"}),
      column("Cursors", (r) => r.cursors || "", "cursors", {...NUMBER, rank: 7}),
      column("Waits for", (r) => r.operations.length ? "upstream: " + operations(r)
        : ["its client", "dim"], "operations", {rank: 3, most: true,
        tip: "Upstream, if a command has no reply yet; otherwise for its client's next one"}),
      UPSTREAM, CONN, SESSION],
    more: (r) => [["uid", r.uid]],
    links: (r) => [theSession(r), itsHistory(r), ...theConnection(r), ...theirs(r)],
    empty: "No transaction is open.",
  },
  cursors: {
    title: "Cursors", sort: "-age", acts: [], key: (r) => [r.session, r.upstream, r.cursor].join(" "),
    filters: ["text", "owner", "application", "driver", "client"],
    states: ["operation", "transaction", "idle"],
    columns: [OWNER, APPLICATION, DRIVER, CLIENT,
      column("Namespace", (r) => r.namespace, "namespace", {rank: 2}),
      lasting("Open for", (r) => r.age_seconds, "age", {rank: 3}),
      lasting("Idle", (r) => r.idle_seconds, "idle", {rank: 4}),
      UPSTREAM, {...CONN, tip: "The number of the connection that has opened it", rank: 8},
      column("Cursor", (r) => r.cursor, null, {mono: true, rank: 9}), SESSION],
    more: (r) => [["uid", r.uid]],
    links: (r) => [theSession(r), ...theConnection(r), ...theirs(r)],
    empty: "No cursor is open.",
  },
  connections: {
    title: "Connections", sort: "-conn", key: (r) => String(r.conn),
    filters: ["text", "user", "application", "driver", "client"],
    states: ["requests", "monitor", "opened", "operation", "idle"],
    level: (r) => r.use === "requests" ? "" : "aside",
    acts: [CLOSE, INTERRUPT_THERE],
    columns: [
      {...CONN, sort: "conn", rank: 4},
      USER, APPLICATION, DRIVER, {...CLIENT, rank: 3},
      {...UPSTREAM, sort: "upstream", rank: 7},
      lasting("Open for", (r) => r.age_seconds, "age", {rank: 5}),
      column("Requests", (r) => number(r.requests), "requests", {...NUMBER, rank: 6}),
      column("Use", (r) => r.use === "monitor" ? ["monitor", "dim"]
        : r.use === "requests" ? "" : ["only opened", "dim"], null,
      {rank: 5, tip: "A monitor asks for nothing but hello: a driver watches the server by it"}),
      column("In flight", (r) => r.in_flight ? r.command || r.in_flight : "", null, {rank: 2}),
      column("Received", (r) => bytes(r.received_bytes), "received", {...NUMBER, rank: 8}),
      column("Sent", (r) => bytes(r.sent_bytes), "sent", {...NUMBER, rank: 8})],
    links: (r) => [["Sessions from this address", link("sessions",
      {...ofCluster(r), client: r.client.replace(/:\d+$/, "")})], ...theirs(r)],
    empty: "No client is connected.",
  },
  namespaces: {
    title: "Namespaces", sort: "-per_second", acts: [], states: [],
    key: (r) => r.namespace + " " + r.kind, name: (r) => r.namespace + " · " + r.kind,
    filters: ["text", "namespace"],
    columns: [column("Namespace", (r) => r.namespace, "namespace", {rank: 1,
      tip: "database.collection; other is all that are used less"}),
    column("Kind", (r) => r.kind, "kind", {rank: 2, tip: "Of command: all that reads is a query"}),
    column("A second", (r) => r.per_second?.toFixed(1) ?? "", "per_second",
      {...NUMBER, rank: 2, tip: "Requests, in the last minute"}),
    column("Mean lately", (r) => brief(r.lately_mean_seconds), null,
      {...NUMBER, rank: 3, tip: "How long one took, in the last minute"}),
    column("Mean", (r) => brief(r.mean_seconds), "mean",
      {...NUMBER, rank: 4, tip: "Since the proxy started"}),
    column("95 %", (r) => brief(r.p95_seconds), "p95", {...NUMBER, rank: 6,
      tip: "So many took no longer, since the proxy started: an estimate between two bounds"}),
    column("Time in all", (r) => span(r.seconds), "seconds",
      {...NUMBER, rank: 5, tip: "That of all requests together, since the proxy started"}),
    column("Requests", (r) => number(r.requests), "requests",
      {...NUMBER, rank: 4, tip: "Since the proxy started"}),
    column("Errors", (r) => r.errors || "", "errors", {...NUMBER, rank: 5}),
    column("Received", (r) => bytes(r.received_bytes), "received", {...NUMBER, rank: 8}),
    column("Sent", (r) => bytes(r.sent_bytes), "sent", {...NUMBER, rank: 8})],
    links: (r) => r.namespace === "other" ? [] : [["Its cursors", link("cursors",
      {...ofCluster(r), namespace: r.namespace})]],
    empty: "Nothing is counted by namespace.",
  },
  upstream: {
    title: "Upstream", name: (r) => r.upstream ?? r.listener, filters: [], states: [], acts: [], whole: true,
    key: (r) => r.role + " " + r.upstream + " " + r.listener,
    level: (r) => r.up === false ? "alarm" : "",
    columns: [column("Address", (r) => r.upstream ?? ["nobody", "dim"], null, {rank: 1}),
      column("Role", (r) => r.role || ["unknown", "dim"], null, {rank: 2}),
      column("State", (r) => r.up ? ["up", "good"] : r.up === null ? ["not asked yet", "warn"]
        : ["down", "bad"], null, {rank: 1}),
      lasting("For", (r) => r.since_seconds, null,
        {cell: (r) => r.since_seconds === undefined || r.since_seconds === null ? ""
          : span(r.since_seconds), tip: "For how long it has been up or down, as the proxy saw it",
        rank: 2}),
      column("Listener", (r) => r.listener ?? ["none", "dim"], null,
        {tip: "Where the proxy takes clients for it", rank: 3}),
      column("Set", (r) => r.set, null, {tip: "The replica set", rank: 5}),
      column("Own name", (r) => r.name ?? "", null,
        {tip: "What the member calls itself", rank: 7}),
      column("Connections", (r) => r.connections === undefined ? "" : number(r.connections), null,
        {...NUMBER, tip: "Clients' that lead there", rank: 4}),
      column("Wire version", (r) => r.wire_version ?? "", null,
        {...NUMBER, tip: "21 is MongoDB 7.0, 25 is 8.0", rank: 8}),
      column("Problem", (r) => r.problem ?? "", null, {long: true, rank: 3})],
    links: (r) => r.upstream ? [["Connections", link("connections",
      {...ofCluster(r), upstream: r.upstream})], ["Transactions there", link("transactions",
      {...ofCluster(r), upstream: r.upstream})], ["Its history", link("history",
      {...ofCluster(r), text: r.upstream, since: "1d"})]] : [],
    beside: ["What was down, elections", "topology,upstream_*"],
    empty: "Nobody upstream is known yet.",
  },
  incidents: {
    title: "Incidents", filters: ["text"], states: [], acts: [], whole: true,
    key: (r) => [r.kind, r.rule, r.user, r.application, r.driver, r.driver_version].join("\0"),
    columns: [lasting("Last", (r) => r.age_seconds, "last",
      {by: (r) => -r.age_seconds, cell: (r) => span(r.age_seconds) + " ago", full: (r) => "at " + since(r.age_seconds), rank: 3}),
      column("What", (r) => [incident(r), r.kind === "reported" ? "" : "warn"], null,
        {rank: 1, long: true}),
      column("Times", (r) => r.count ? number(r.count) : "", "times",
        {...NUMBER, by: (r) => r.count ?? 0, tip: "Since the first time", rank: 4}),
      {...USER, by: (r) => r.user ?? "", rank: 2},
      {...APPLICATION, by: (r) => r.application ?? "", rank: 3},
      {...DRIVER, sort: null},
      column("Why", (r) => why(r), null, {long: true, tip: "The last time, and what there was before", rank: 4}),
      column("Bound", (r) => r.bound ? r.bound + " = " + r.limit : ""),
      column("Command", (r) => r.command ?? "", null, {rank: 6}),
      {...CLIENT, sort: null, rank: 7}, CONN, {...SESSION, sort: null, rank: 8},
      column("Owner", (r) => r.session ? person(r.owner) : "", null,
        {tip: "Whom the session belongs to", rank: 7}),
      column("First", (r) => r.first ? moment(r.first) : "", "first",
        {by: (r) => r.first ?? "", tip: LOCAL, rank: 5}),
      column("Last time", (r) => r.last ? moment(r.last) : "", null, {tip: LOCAL, rank: 9})],
    links: (r) => [...(r.session ? [theSession(r)] : []), ...theConnection(r),
      ...theirs({...r, owner: undefined})],
    beside: ["Failed logins", "login_failed"],
    empty: "There were no incidents.",
  },
  rules: {
    title: "Rules", name: (r) => r.name, filters: [], states: [], acts: [], whole: true, key: (r) => r.rule,
    columns: [column("Rule", (r) => r.name, null, {rank: 1}),
      column("Mode", (r) => [r.mode, r.mode === "enforce" ? "good" : "warn"], null, {rank: 2}),
      column("Refused", (r) => number(r.refused), "refused",
        {...NUMBER, by: (r) => r.refused, tip: "Since the proxy started", rank: 3}),
      column("Would be refused", (r) => number(r.reported), "reported",
        {...NUMBER, by: (r) => r.reported, tip: "In mode report: the requests went through", rank: 4}),
      column("Aborted", (r) => r.aborted ? number(r.aborted) : "", null,
        {...NUMBER, tip: "Transactions that it has ended upstream", rank: 4}),
      column("Aborted", (r) => r.aborted || "", null,
        {...NUMBER, tip: "Transactions that it has ended", rank: 4}),
      column("Settings", (r) => settings(r.settings), null, {long: true, rank: 5}),
      column("What it does", (r) => r.about.split(/(?<=\.) /)[0], null, {long: true, rank: 6})],
    more: (r) => [["In full", r.about], ["Class", r.rule === r.name ? "" : r.rule]],
    links: (r) => [["Incidents", link("incidents", {...ofCluster(r), text: r.name})],
      ["History", link("history", {...ofCluster(r), text: r.name, since: "1d"})]],
    beside: ["All refusals", "refused,reported,foreign_uid"],
    empty: "There are no rules.",
  },
};

/* A rule's settings in words. Of the bounds of some, as incidents number them, what they say. */
function settings(given) {
  const word = (value) => Array.isArray(value) && value.every((one) => typeof one === "string")
    ? value.join(" ") || "none" : typeof value === "string" && value ? value : JSON.stringify(value);
  const said = (all) => Object.entries(all).map(([name, value]) => name + " = " + word(value));
  const {bounds, ...others} = given;
  if (!bounds?.every?.((one) => Array.isArray(one?.users))) return said(given).join(", ");
  return [said(others).join(", "), ...bounds.map(({users, applications = [], ...own}, at) => {
    const whose = [["users", users], ["applications", applications]].filter(([, names]) => names.length)
      .map(([what, names]) => what + " " + names.join(" ")).join(" and ") || "everybody";
    const set = Object.entries(own).filter(([, value]) => value !== null && value !== false);
    return `bounds[${at}] for ${whose}: ${said(Object.fromEntries(set)).join(", ")}`;
  })].filter(Boolean).join("; ");
}

/* The latest reason, and those before it. */
const why = (row) => [row.reason ?? "", ...(row.before ?? []).map((one) => "before: "
  + number(one.count) + (one.count === 1 ? " time " : " times ") + (one.command || "connect") + ": " + (one.reason ?? ""))].join("; ");

const INCIDENTS = {
  foreign_uid: "tried a session of somebody else (foreign uid)",
  shared: "used one session from two client processes",
  concurrent: "used one session for two things at once",
  concurrent_in_transaction: "used one transaction for two things at once",
  txn_number_backwards: "sent a txnNumber that goes backwards",
  txn_number_reused: "sent a txnNumber twice for different things",
  refused: "refused by", reported: "would be refused by",
  aborted: "left a transaction open too long: aborted by",
  over: "left a transaction open too long: it had ended before it was aborted by",
  given_up: "left a transaction open too long, which could not be aborted by",
};
const incident = (row) => (row.kind === "foreign_uid" && row.owner
  ? "tried a session of " + row.owner + " (foreign uid)" : INCIDENTS[row.kind] ?? row.kind) + (!row.rule ? ""
  : (row.rule === "the proxy" ? " " : " the rule ") + row.rule);
