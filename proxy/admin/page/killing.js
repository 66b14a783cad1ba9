"use strict";
/* ---------------------------------------------------------------- ending sessions

Nothing is killed before it was shown what that would hit. */

let killing = null;

const killTarget = (row) => ({session: row.session, uid: row.uid});

/* What can be done about one row. */
const KILL = {title: "Kill…", name: (row) => "Kill the session " + row.session.slice(0, 8) + " of "
  + (row.owner || NOBODY),
run: (row) => askToKill({sessions: [killTarget(row)], ...ofCluster(row)},
  "The session " + row.session + " of " + (row.owner || NOBODY) + ".")};

function drawActs(cell, row) {
  const acts = VIEWS[detail && cell.id === "detail-acts" ? detail.name : view.name].acts?.(row) ?? [];
  patch(cell, acts, (one) => one.title, (one) => {
    if (one.href) return make("a", one.title, {class: "button"});
    const button = make("button", one.title, {type: "button", class: "danger"});
    button.addEventListener("click", () => button.act.run(button.row));
    return button;
  }, (element, one) => {
    element.row = row;
    element.act = one;
    if (one.href) set(element, "href", one.href(row));
    set(element, "aria-label", one.name(row));
    element.disabled = document.body.classList.contains("stale");
  });
}

function drawKill() {
  const kind = VIEWS[view.name];
  const button = $("#kill");
  button.hidden = !kind.kills;
  if (!kind.kills) return;
  // What is killed is killed in one cluster.
  const several = clusters().length > 0 && !cluster()
    && (!chosen.size || new Set([...chosen.values()].map((row) => row.cluster)).size > 1);
  const matching = kind.kills === "matching" ? found.matched : 0;
  button.disabled = (!chosen.size && !matching) || several
    || document.body.classList.contains("stale");
  button.title = several ? "Choose a cluster first" : "";
  say(button, chosen.size ? "Kill " + plural(chosen.size, "chosen session") + "…"
    : kind.kills !== "matching" ? "Kill chosen…"
      : Object.keys(view.filters).length ? "Kill " + plural(matching, "matching session") + "…"
        : (matching === 1 ? "Kill " : "Kill all ") + plural(matching, "session") + "…");
}

function killMany() {
  const {cluster: named, ...asked} = view.filters;
  if (chosen.size) {
    const rows = [...chosen.values()];
    askToKill({sessions: rows.map(killTarget), ...ofCluster(rows[0])}, "The sessions that you chose.");
    return;
  }
  askToKill({patterns: [Object.keys(asked).length ? asked : {owner: "*"}],
    ...(named ? {cluster: named} : {})},
  Object.keys(asked).length ? "All that match " + Object.entries(asked)
    .map(([name, value]) => name + " = " + value).join(" and ") + "."
    : "Every session of everybody: no filter is set.");
}

async function askToKill(asked, words) {
  killing = asked;
  say($("#kill-what"), words + (asked.cluster ? " In the cluster " + asked.cluster + "." : ""));
  say($("#kill-preview"), "Looking…");
  $("#kill-list").replaceChildren();
  say($("#kill-note"), "");
  say($("#kill-do"), "Kill");
  $("#kill-do").disabled = true;
  $("#kill-token").value = "";
  $("#kill-token-label").hidden = Boolean(token) || summary.kill === "off";
  $("#kill-dialog").showModal();
  await previewKill();
}

/* What went wrong, in words; after a wrong token, another one is asked for. */
function killProblem(error) {
  if (error.status === 401) {
    const wrong = Boolean(token);
    if (wrong) refuseToken();
    $("#kill-token-label").hidden = false;
    return wrong ? tokenProblem : "Enter the token.";
  }
  return error.status ? error.message : "The proxy does not answer.";
}

async function previewKill() {
  const typed = $("#kill-token").value.trim();
  if (typed) token = typed;
  drawKey();
  try {
    const seen = await ask("/kill", {...killing, dry_run: true});
    $("#kill-token-label").hidden = Boolean(token) || summary.kill === "off";
    say($("#kill-preview"), plural(seen.matched, "session") + " with "
      + plural(seen.operations, "command") + " in flight, " + plural(seen.transactions,
      "open transaction") + " and " + plural(seen.cursors, "open cursor") + "."
      + (seen.killed_before ? " Of these, " + plural(seen.killed_before, "session")
        + " had been killed before and not been used since." : ""));
    drawList(seen.sessions);
    const missing = seen.matched - seen.reachable;
    say($("#kill-note"), summary.kill === "off"
      ? "Killing is off: no admin.token is configured."
      : missing ? "The owners of " + plural(missing, "session")
        + " have no idle connection, through which the proxy could kill them now." : "");
    $("#kill-do").disabled = summary.kill === "off" || !seen.matched;
    say($("#kill-do"), "Kill " + plural(seen.matched, "session"));
  } catch (error) {
    say($("#kill-preview"), "");
    say($("#kill-note"), killProblem(error));
  }
}

async function kill() {
  const typed = $("#kill-token").value.trim();
  if (typed) token = typed;
  $("#kill-do").disabled = true;
  try {
    const done = await ask("/kill", {...killing, dry_run: false});
    say($("#kill-preview"), plural(done.killed, "session") + " killed, "
      + number(done.unreachable) + " unreachable, " + number(done.failed) + " failed.");
    drawList([...done.unreachable_sessions, ...done.failed_sessions]);
    say($("#kill-note"), Object.keys(done.errors).join("; ")
      || (done.unreachable ? "Unreachable: their owners have no idle connection." : ""));
    chosen.clear();
    loop();
  } catch (error) {
    say($("#kill-note"), killProblem(error));
    if (error.status === 401) $("#kill-do").disabled = false;
  }
}

function drawList(rows) {
  patch($("#kill-list"), rows, (row) => row.session + " " + row.uid, () => {
    const line = make("li");
    line.append(make("span"), make("span", null, {class: "mono"}));
    return line;
  }, (line, row) => {
    say(line.firstChild, whose(row));
    say(line.lastChild, row.session.slice(0, 8));
  });
}

function startKill() {
  $("#kill").addEventListener("click", killMany);
  $("#kill-token").addEventListener("change", previewKill);
  $("#kill-form").addEventListener("submit", (event) => event.preventDefault());
  $("#kill-do").addEventListener("click", kill);
  $("#kill-close").addEventListener("click", () => $("#kill-dialog").close());
}
