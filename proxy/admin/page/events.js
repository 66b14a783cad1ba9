"use strict";
/* ---------------------------------------------------------------- what happened, in words */

/* Too frequent to be listed one by one where there is much of it. */
const RARE = "!session_*,!transaction_*";
const EVENTS = {
  [RARE]: "all that is rare",
  session_started: "sessions started", session_ended: "sessions ended",
  session_killed: "sessions killed", "transaction_*": "transactions",
  "refused,reported,foreign_uid": "refusals", incident: "incidents", login_failed: "failed logins",
  slow: "slow requests",
  "kill,sessions_killed,abort,close,interrupt": "kills", "topology,upstream_*": "upstream",
  "proxy_*,reloaded,worker_died": "the proxy itself",
};
/* One of a kind of event, and several. */
const COUNTS = {
  session_started: ["session started", "sessions started"],
  session_ended: ["session ended", "sessions ended"],
  session_killed: ["session killed", "sessions killed"],
  transaction_started: ["transaction started", "transactions started"],
  transaction_ended: ["transaction ended", "transactions ended"],
  refused: ["refusal", "refusals"], reported: ["would be refused", "would be refused"],
  foreign_uid: ["try of somebody else's session", "tries of somebody else's sessions"],
  incident: ["incident", "incidents"], login_failed: ["failed login", "failed logins"],
  slow: ["slow request", "slow requests"], kill: ["kill", "kills"],
  topology: ["change of topology", "changes of topology"],
};
const countsOf = (counts) => Object.entries(counts).map(([name, count]) => number(count) + " "
  + (COUNTS[name]?.[count === 1 ? 0 : 1] ?? name.replace(/_/g, " "))).join(", ");

const counted = (count, word) => plural(count ?? 0, word);

/* By which filters an operator said whose sessions to kill. */
function meantBy(row) {
  const {patterns = [], sessions} = row.meant ?? {};
  const said = patterns.map((one) => Object.entries(one).map(([name, value]) =>
    name + "=" + (/\s|^$/.test(value) ? '"' + value + '"' : value)).join(" "));
  if (sessions) said.push(number(sessions) + " by id");
  return said.length ? ", meant were " + said.join(" or ") : "";
}

/* One event in words. */
function happened(row) {
  const times = row.count > 1 ? " (" + number(row.count) + " times)" : "";
  const why = row.reason ? ": " + row.reason : "";
  const by = row.operator ? " by operator " + row.operator
    : row.command === "kill" || row.event !== "kill" ? " by an operator" : "";
  const words = {
    transaction_started: () => "transaction " + row.transaction + " started",
    transaction_ended: () => "transaction " + row.transaction + " " + row.outcome
      + (row.seconds === null ? "" : " after " + span(row.seconds)) + ", "
      + counted(row.statements, "statement"),
    refused: () => (row.command || "request") + " refused by " + (row.rule ?? "the proxy") + why,
    reported: () => (row.command || "request") + " would be refused by " + (row.rule ?? "the proxy") + why,
    foreign_uid: () => (row.command ? row.command + ": " : "")
      + incident({...row, kind: "foreign_uid"}) + why,
    incident: () => incident(row) + why,
    login_failed: () => "login failed" + why,
    slow: () => (row.command || "request") + (row.namespace ? " on " + row.namespace : "") + " took "
      + row.seconds.toFixed(3) + " s, " + row.upstream_seconds.toFixed(3) + " s upstream: "
      + row.result + (row.comment ? ", comment " + row.comment : ""),
    kill: () => row.command + by + " " + row.kind + ": "
      + counted(row.sessions ?? row.targets, "session") + meantBy(row) + why,
    sessions_killed: () => "all sessions of " + (row.everybody ? "everybody" : row.user || NOBODY)
      + " killed: " + number(row.sessions),
    topology: () => (row.primary_before && row.primary !== row.primary_before ? "election: " : "")
      + "primary " + (row.primary ?? "none")
      + (row.primary_before ? ", was " + row.primary_before : "") + "; " + row.kind + " of "
      + row.members.join(", "),
    upstream_down: () => "upstream " + row.upstream + " down" + (row.problem ? ": " + row.problem : ""),
    upstream_up: () => "upstream " + row.upstream + " up again",
    proxy_started: () => "proxy started, version " + row.version,
    proxy_stopping: () => "proxy stopping" + (row.replaced ? ": replaced by a new process" : ""),
    reloaded: () => row.kind === "done" ? "settings read again" : "reload failed: see the log",
    worker_died: () => "worker " + row.worker + " died, status " + row.status,
  };
  const acted = ["abort", "close", "interrupt"].includes(row.event)
    ? () => row.event + by + " " + row.kind + why : () => row.event.replace(/_/g, " ");
  return (words[row.event] ?? acted)() + times;
}
