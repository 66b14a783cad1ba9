"use strict";
/* ---------------------------------------------------------------- what is shown

A column: heading, what the cell holds (a text, or [text, class of a pill]), name to sort by,
whether it is a number, and what the heading's tip says. */

const column = (title, cell, sort, options = {}) => ({title, cell, sort, ...options});
const OWNER = column("Owner", (r) => r.owner || "–", "owner", {tip: "Whom it belongs to"});
const USER = column("User", (r) => r.user || "–", "user", {tip: "Who is logged in"});
const APPLICATION = column("Application", (r) => r.application || "–", "application",
  {tip: "application.name, as the driver was configured"});
const DRIVER = column("Driver", driver, "driver");
const CLIENT = column("Client", (r) => r.client, "client", {tip: "Where it comes from"});
const SESSION = column("Session", (r) => r.session.slice(0, 8), "session",
  {mono: true, full: (r) => r.session + " of uid " + (r.uid ?? "")});
const FLIGHT = column("In flight", operations, "operations",
  {tip: "Commands that have no reply yet, and for how long"});
const NUMBER = {number: true};
/* Before the others where the proxy has several clusters. */
const CLUSTER = column("Cluster", (r) => r.cluster, "cluster", {tip: "The upstream cluster"});
const clusters = () => (summary.clusters ?? []).map((one) => one.cluster);
const ofCluster = (row) => row.cluster ? {cluster: row.cluster} : {};
const columns = (kind) => !clusters().length ? kind.columns
  : [kind.whole ? {...CLUSTER, sort: null} : CLUSTER, ...kind.columns];

function transaction(row) {
  if (row.transaction === "in progress") {
    const idle = row.transaction_idle_seconds;
    const text = "open " + span(row.transaction_seconds) + (idle >= 10 ? ", idle " + span(idle) : "");
    return [text, idle >= 30 ? "bad" : "warn"];
  }
  return row.transaction && row.transaction !== "none" ? row.transaction : "";
}

const STATES = {
  operation: "with a command in flight", transaction: "in a transaction",
  cursor: "with an open cursor", idle: "idle", ended: "ended by their owner", killed: "killed",
};
const VIEWS = {
  sessions: {
    title: "Sessions", sort: "activity", kill: true,
    level: (r) => r.transaction_idle_seconds >= 30 ? "alarm"
      : r.transaction_seconds !== undefined ? "warning" : "",
    filters: ["text", "owner", "application", "driver", "client"], states: Object.keys(STATES),
    columns: [OWNER, APPLICATION, DRIVER, CLIENT,
      column("Age", (r) => span(r.age_seconds), "age", {...NUMBER, tip: "Since its first use"}),
      column("Idle", (r) => r.operations.length ? "in use" : span(r.idle_seconds), "idle",
        {...NUMBER, tip: "Since its last use"}),
      column("Transaction", transaction, "transaction"),
      column("Cursors", (r) => r.cursors || "", "cursors", {...NUMBER, tip: "Open cursors"}),
      FLIGHT,
      column("Ended", (r) => r.ended ?? "", null, {tip: "Ended or killed, and not used since"}),
      SESSION],
    empty: "No sessions. They appear with a driver's first command through the proxy.",
  },
  groups: {
    title: "Groups", sort: "-sessions",
    filters: ["text", "owner", "application", "driver"],
    states: ["operation", "transaction", "cursor"],
    columns: [OWNER, APPLICATION, DRIVER,
      column("Sessions", (r) => number(r.sessions), "sessions", NUMBER),
      column("Owner's in all", (r) => number(r.owner_sessions), "owner_sessions", NUMBER),
      column("Budget used", (r) => share(r.budget_used), "budget_used",
        {...NUMBER, tip: "The larger of the user's and the application's share of its budget"}),
      column("Transactions", (r) => r.transactions || "", "transactions", NUMBER),
      column("Cursors", (r) => r.cursors || "", "cursors", NUMBER),
      column("In flight", (r) => r.operations || "", "operations", NUMBER),
      column("Oldest", (r) => span(r.oldest_seconds), "oldest", {...NUMBER, tip: "First use"}),
      column("Longest idle", (r) => span(r.idlest_seconds), "idlest", NUMBER)],
    open: (row) => show("sessions", {...ofCluster(row), owner: row.owner,
      application: row.application, driver: row.driver}),
    empty: "Nobody has a session.",
  },
  transactions: {
    title: "Transactions", sort: "-age",
    filters: ["text", "owner", "application", "driver", "client"], states: ["operation", "idle"],
    columns: [OWNER, APPLICATION, DRIVER, CLIENT,
      column("Open for", (r) => span(r.age_seconds), "age", NUMBER),
      column("Idle", (r) => r.idle_seconds >= 30 ? [span(r.idle_seconds), "bad"]
        : span(r.idle_seconds), "idle", NUMBER),
      column("txnNumber", (r) => r.child ? r.txn_number + " (child)" : r.txn_number, "txn_number",
        NUMBER),
      column("Statements", (r) => r.statements, null, NUMBER),
      column("Cursors", (r) => r.cursors || "", "cursors", NUMBER),
      FLIGHT, column("Upstream", (r) => r.upstream), column("Conn", (r) => r.conn, null, NUMBER),
      SESSION],
    open: (row) => show("sessions", {...ofCluster(row), text: row.session}),
    empty: "No transaction is open.",
  },
  cursors: {
    title: "Cursors", sort: "-age",
    filters: ["text", "owner", "application", "driver", "client"],
    states: ["operation", "transaction", "idle"],
    columns: [OWNER, APPLICATION, DRIVER, CLIENT,
      column("Namespace", (r) => r.namespace, "namespace"),
      column("Open for", (r) => span(r.age_seconds), "age", NUMBER),
      column("Idle", (r) => span(r.idle_seconds), "idle", NUMBER),
      column("Upstream", (r) => r.upstream), column("Cursor", (r) => r.cursor, null, {mono: true}),
      SESSION],
    open: (row) => show("sessions", {...ofCluster(row), text: row.session}),
    empty: "No cursor is open.",
  },
  connections: {
    title: "Connections", sort: "-conn",
    filters: ["text", "user", "application", "driver", "client"], states: ["operation", "idle"],
    columns: [
      column("Conn", (r) => r.conn, "conn", {...NUMBER, tip: "The connection's number, as in the logs"}),
      USER, APPLICATION, DRIVER, CLIENT,
      column("Upstream", (r) => r.upstream, "upstream"),
      column("Open for", (r) => span(r.age_seconds), "age", NUMBER),
      column("Requests", (r) => number(r.requests), "requests", NUMBER),
      column("In flight", (r) => r.in_flight ? r.command || r.in_flight : ""),
      column("Received", (r) => bytes(r.received_bytes), "received", NUMBER),
      column("Sent", (r) => bytes(r.sent_bytes), "sent", NUMBER)],
    empty: "No client is connected.",
  },
  incidents: {
    title: "Incidents", filters: [], states: [], whole: true,
    columns: [column("Last", (r) => span(r.age_seconds) + " ago", null, NUMBER),
      column("What", (r) => [incident(r), "warn"]),
      column("Times", (r) => r.count ? number(r.count) : "", null, {...NUMBER, tip: "Since the first time"}),
      USER, APPLICATION, column("Driver", driver),
      column("Why", (r) => r.reason ?? "", null, {long: true, tip: "The last time"}),
      column("Bound", (r) => r.bound ? r.bound + " = " + r.limit : ""),
      column("Command", (r) => r.command ?? ""), column("Client", (r) => r.client ?? ""),
      column("Conn", (r) => r.conn ?? "", null, NUMBER),
      column("Session", (r) => (r.session ?? "").slice(0, 8), null, {mono: true}),
      column("Owner", (r) => r.owner ?? ""),
      column("First", (r) => r.first ?? "", null, {tip: "Time of day, UTC"}),
      column("Last time", (r) => r.last ?? "", null, {tip: "Time of day, UTC"})],
    empty: "There were no incidents.",
  },
  rules: {
    title: "Rules", filters: [], states: [], whole: true,
    columns: [column("Rule", (r) => r.rule),
      column("Mode", (r) => [r.mode, r.mode === "enforce" ? "good" : "warn"]),
      column("Refused", (r) => number(r.refused), null, {...NUMBER, tip: "Since the proxy started"}),
      column("Would be refused", (r) => number(r.reported), null,
        {...NUMBER, tip: "In mode report: the requests went through"}),
      column("Settings", (r) => Object.entries(r.settings)
        .map(([name, value]) => name + " = " + JSON.stringify(value)).join(", ")),
      column("What it does", (r) => r.about, null, {long: true})],
    empty: "There are no rules.",
  },
};
const INCIDENTS = {
  foreign_uid: "tried a session of somebody else (foreign uid)",
  shared: "used one session from two client processes",
  concurrent: "used one session for two things at once",
  txn_number_backwards: "sent a txnNumber that goes backwards",
  refused: "refused by", reported: "would be refused by",
};
const incident = (row) => (INCIDENTS[row.kind] ?? row.kind) + (!row.rule ? ""
  : (row.rule === "the proxy" ? " " : " the rule ") + row.rule);

function share(used) {
  if (used === null || used === undefined) return "";
  return [Math.round(used * 100) + " %", used >= 1 ? "bad" : used >= 0.8 ? "warn" : "good"];
}
