"use strict";
/* ---------------------------------------------------------------- what can be done, and to whom

An act has the path that it asks, its title, and what is said of a preview (`shows`, which may add
`rows`, a `note` and that it is not `possible`) and of what came of it (`says`). Nothing is done
before it was shown what that would hit. */

/* What came of it. */
const OUTCOMES = {
  aborted: "Aborted: the session lives.", committed: "It had been committed.",
  over: "It was over already.",
  killOp: "Interrupted.", closed: "Done: the connection is closed.",
};
const said = (done) => OUTCOMES[done.outcome] ?? "Not done: " + (done.problem || done.outcome) + ".";

/* What a kill has freed in the budgets of sessions, and of whose. */
function freed(done) {
  const whose = done.freed_by.slice(0, 3).map((r) => (r.owner || NOBODY) + " · "
    + (r.application || "no application name") + " " + number(r.freed)
    + (r.owner_limit ? ` (${number(r.owner_live)} of ${number(r.owner_limit)} still in use)` : ""));
  return (done.freed ? " " + plural(done.freed, "place") + " in the budget freed: "
    + whose.join(", ") + (done.freed_by.length > 3 ? ", …" : "") + "." : "")
    + (done.kept ? " " + plural(done.kept, "session")
      + " with something open still: their places stay taken." : "");
}

const ACTS = {
  kill: {
    title: "Kill sessions", verb: "Kill",
    shows: (seen) => {
      const missing = seen.matched - seen.reachable;
      return {
        words: plural(seen.matched, "session") + " with " + plural(seen.operations, "command")
          + " in flight, " + plural(seen.transactions, "open transaction") + " and "
          + plural(seen.cursors, "open cursor") + "." + (seen.killed_before ? " Of these, "
            + plural(seen.killed_before, "session")
            + " had been killed before and not been used since." : ""),
        rows: seen.sessions, verb: "Kill " + plural(seen.matched, "session"),
        possible: seen.matched > 0,
        note: missing ? "The owners of " + plural(missing, "session")
          + " have no idle connection, through which the proxy could kill them now." : "",
      };
    },
    says: (done) => ({
      words: plural(done.killed, "session") + " killed, " + number(done.unreachable)
        + " unreachable, " + number(done.failed) + " failed." + freed(done),
      rows: [...done.unreachable_sessions, ...done.failed_sessions],
      note: Object.keys(done.errors).join("; ")
        || (done.unreachable ? "Unreachable: their owners have no idle connection." : ""),
    }),
  },
  abort: {
    title: "Abort a transaction", verb: "Abort",
    shows: ({transaction: row, reachable}) => ({
      words: "Transaction " + row.txn_number + " of " + whose(row) + ", open for "
        + span(row.age_seconds) + ", idle for " + span(row.idle_seconds) + ", "
        + plural(row.statements, "statement") + ", " + plural(row.cursors, "open cursor")
        + (row.operations.length ? ", in flight: " + operations(row) : "")
        + ". Its session lives.",
      note: reachable ? ""
        : "Its owner has no idle connection, through which the proxy could abort it now.",
    }),
    says: (done) => ({words: said(done)}),
  },
  interrupt: {
    title: "Interrupt an operation", verb: "Interrupt",
    shows: ({connection: row}) => ({
      words: (row.command || "What is in flight") + " on connection " + row.conn + " of "
        + whose(row) + (row.operation_seconds ? ", for " + span(row.operation_seconds) : "")
        + ". Its session lives; its transaction does if upstream lets it.",
      further: {operation: row.operation},
    }),
    says: (done) => ({words: said(done)}),
  },
  close: {
    title: "Close a connection", verb: "Close it",
    shows: ({connection: row}) => ({
      words: "Connection " + row.conn + " of " + whose(row) + " from " + row.client + ", open for "
        + span(row.age_seconds) + (row.in_flight ? ", in flight: " + row.command : "")
        + ". Upstream keeps its sessions, transactions and cursors.",
    }),
    says: (done) => ({words: said(done)}),
  },
};

/* ---- beside a row */

const button = (act, title, subject, body, when = () => true) => ({
  title, when, name: (row) => title.replace("…", "") + " " + subject(row),
  run: (row) => askTo(act, {...body(row), ...ofCluster(row)}),
});
const killTarget = (row) => ({session: row.session, uid: row.uid});
const named = (row) => "the session " + row.session.slice(0, 8) + " of " + (row.owner || NOBODY);

const KILL = button("kill", "Kill…", named, (row) => ({sessions: [killTarget(row)]}));
const ABORT = button("abort", "Abort…", (row) => "the transaction of " + named(row), (row) => ({
  ...killTarget(row), ...(row.child === undefined ? {} : {child: row.child,
    txn_number: row.txn_number})}),
(row) => [undefined, "in progress", "timed out", "unknown"].includes(row.transaction)
  || row.child_transactions > 0);
const INTERRUPT = button("interrupt", "Interrupt…", (row) => "what is in flight of " + named(row),
  killTarget, (row) => row.operations?.length > 0);
const INTERRUPT_THERE = button("interrupt", "Interrupt…",
  (row) => "what is in flight on connection " + row.conn, (row) => ({conn: row.conn}),
  (row) => row.in_flight > 0 && row.use === "requests");
const CLOSE = button("close", "Close…", (row) => "connection " + row.conn,
  (row) => ({conn: row.conn}));

/* In a row stands the first that can be done; in the details all of them. */
function drawActs(place, row, kind, all) {
  const possible = kind.acts.filter((one) => !one.when || one.when(row));
  patch(place, all ? possible : possible.slice(0, 1), (one) => one.title, (one) => {
    if (one.href) return make("a", one.title, {class: "button"});
    const made = make("button", one.title, {type: "button", class: "danger"});
    made.addEventListener("click", () => made.act.run(made.row));
    return made;
  }, (element, one) => {
    element.row = row;
    element.act = one;
    if (one.href) set(element, "href", one.href(row));
    set(element, "aria-label", one.name(row));
    element.disabled = document.body.classList.contains("stale");
  });
}

/* ---- in the bar */

function drawKill() {
  const kind = VIEWS[view.name];
  const kill = $("#kill");
  kill.hidden = !kind.kills;
  if (!kind.kills) return;
  const stale = document.body.classList.contains("stale");
  // What is killed is killed in one cluster.
  const several = clusters().length > 0 && !cluster()
    && (!chosen.size || new Set([...chosen.values()].map((row) => row.cluster)).size > 1);
  const matching = kind.kills === "matching" ? found.matched : 0;
  kill.disabled = (!chosen.size && !matching) || several || stale;
  kill.title = several ? "Choose a cluster first" : "";
  say(kill, chosen.size ? "Kill " + plural(chosen.size, "chosen session") + "…"
    : kind.kills !== "matching" ? "Kill chosen…"
      : Object.keys(view.filters).length ? "Kill " + plural(matching, "matching session") + "…"
        : (matching === 1 ? "Kill " : "Kill all ") + plural(matching, "session") + "…");
}

function killMany() {
  const {cluster: within, ...asked} = view.filters;
  if (chosen.size) {
    const rows = [...chosen.values()];
    askTo("kill", {sessions: rows.map(killTarget), ...ofCluster(rows[0])},
      "The sessions that you chose.");
    return;
  }
  const some = Object.keys(asked).length > 0;
  askTo("kill", {patterns: [some ? asked : {owner: "*"}], ...(within ? {cluster: within} : {})},
    some ? "All that match " + Object.entries(asked).map(([name, value]) => name + " = " + value)
      .join(" and ") + "." : "Every session of everybody: no filter is set.");
}

/* ---- the dialog */

let acting = null;

async function askTo(name, body, words = "") {
  acting = {...ACTS[name], path: "/" + name, body, further: {}};
  say($("#act-title"), acting.title);
  say($("#act-what"), words + (body.cluster ? " In the cluster " + body.cluster + "." : ""));
  say($("#act-preview"), "Looking…");
  drawList([]);
  say($("#act-note"), "");
  say($("#act-do"), acting.verb);
  say($("#act-close"), "Cancel");
  $("#act-do").hidden = false;
  $("#act-do").disabled = true;
  $("#act-token").value = "";
  $("#act-token-label").hidden = Boolean(token) || summary.kill === "off";
  $("#act-dialog").showModal();
  await preview();
}

/* What went wrong, in words; after a wrong token, another one is asked for. */
function problem(error) {
  if (error.status === 401) {
    // A preview and what it is of may be refused both, with the same token.
    const wrong = Boolean(error.shown);
    if (wrong && token === error.shown) refuseToken();
    $("#act-token-label").hidden = false;
    $("#act-token").focus();
    return wrong ? tokenProblem : "Enter the token.";
  }
  return error.status ? error.message : "The proxy does not answer.";
}

function takeToken() {
  const typed = $("#act-token").value.trim();
  if (typed) token = typed;
  drawKey();
}

async function preview() {
  takeToken();
  try {
    const shown = acting.shows(await ask(acting.path, {...acting.body, dry_run: true}));
    $("#act-token-label").hidden = Boolean(token) || summary.kill === "off";
    say($("#act-preview"), shown.words);
    drawList(shown.rows ?? []);
    acting.further = shown.further ?? {};
    const off = summary.kill === "off";
    say($("#act-note"), off ? "Off: no admin.token is configured." : shown.note ?? "");
    $("#act-do").disabled = off || shown.possible === false;
    say($("#act-do"), shown.verb ?? acting.verb);
    goOn();
  } catch (error) {
    say($("#act-preview"), "");
    say($("#act-note"), problem(error));
  }
}

/* What had the focus may be hidden now, or gone. */
function goOn() {
  const focused = document.activeElement;
  if (focused !== document.body && focused.getClientRects().length) return;
  if (!$("#act-dialog").open) (current ?? $("[aria-current=page]")).focus();
  else if ($("#act-do").disabled || $("#act-do").hidden) $("#act-close").focus();
  else $("#act-do").focus();
}

async function act() {
  takeToken();
  $("#act-do").disabled = true;
  try {
    const done = await ask(acting.path, {...acting.body, ...acting.further, dry_run: false});
    const came = acting.says(done);
    say($("#act-preview"), came.words);
    drawList(came.rows ?? []);
    say($("#act-note"), came.note ?? "");
    $("#act-token-label").hidden = true;
    $("#act-do").hidden = true;
    say($("#act-close"), "Close");
    goOn();
    chosen.clear();
    loop();
  } catch (error) {
    say($("#act-note"), problem(error));
    $("#act-do").disabled = false;
  }
}

function drawList(rows) {
  patch($("#act-list"), rows, (row) => row.session + " " + row.uid, () => {
    const line = make("li");
    line.append(make("span"), make("span", null, {class: "mono"}));
    return line;
  }, (line, row) => {
    say(line.firstChild, whose(row));
    say(line.lastChild, row.session.slice(0, 8));
  });
}

function startActs() {
  $("#kill").addEventListener("click", killMany);
  $("#act-token").addEventListener("change", preview);
  $("#act-form").addEventListener("submit", (event) => event.preventDefault());
  $("#act-do").addEventListener("click", act);
  $("#act-close").addEventListener("click", () => $("#act-dialog").close());
  $("#act-dialog").addEventListener("close", goOn);
}
