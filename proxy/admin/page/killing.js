"use strict";
let killing = null;
$("#kill").addEventListener("click", async () => {
  const {cluster: named, ...asked} = filters();
  killing = chosen.size ? {sessions: [...chosen.values()]}
    : {patterns: [Object.keys(asked).length ? asked : {owner: "*"}]};
  if (named) killing.cluster = named;
  $("#kill-what").textContent = chosen.size ? "The sessions that you chose."
    : Object.keys(asked).length ? "All that match " + clean(Object.entries(asked)
      .map(([name, value]) => name + " = " + value).join(" and ")) + "."
      : "Every session of everybody: no filter is set.";
  if (named) $("#kill-what").textContent += " In the cluster " + clean(named) + ".";
  $("#kill-preview").textContent = "Looking…";
  $("#kill-list").replaceChildren();
  $("#kill-note").textContent = "";
  $("#kill-do").disabled = true;
  $("#kill-token-label").hidden = Boolean(token) || summary.kill === "off";
  $("#kill-dialog").showModal();
  await preview();
});

async function preview() {
  const note = $("#kill-note");
  const typed = $("#kill-token").value.trim();
  if (typed) token = typed;
  try {
    if (summary.kill === "on" && !token) {
      $("#kill-preview").textContent = "";
      note.textContent = "Enter the token to see what would be killed.";
      return;
    }
    const seen = await ask("/kill", {...killing, dry_run: true});
    $("#kill-token-label").hidden = true;
    $("#kill-preview").textContent = plural(seen.matched, "session") + " with "
      + plural(seen.operations, "command") + " in flight, " + plural(seen.transactions,
      "open transaction") + " and " + plural(seen.cursors, "open cursor") + "."
      + (seen.killed_before ? " Of these, " + plural(seen.killed_before, "session")
        + " had been killed before and not been used since." : "");
    drawList(seen.sessions);
    const missing = seen.matched - seen.reachable;
    note.textContent = summary.kill === "off"
      ? "Killing is off: no admin.token is configured."
      : missing ? "The owners of " + plural(missing, "session")
        + " have no idle connection, through which the proxy could kill them now." : "";
    $("#kill-do").disabled = summary.kill === "off" || !seen.matched;
    $("#kill-do").textContent = "Kill " + plural(seen.matched, "session");
  } catch (error) {
    if (error.status === 401) { token = ""; $("#kill-token-label").hidden = false; }
    $("#kill-preview").textContent = "";
    note.textContent = clean(error.message);
  }
}

$("#kill-token").addEventListener("change", preview);
$("#kill-do").addEventListener("click", async () => {
  $("#kill-do").disabled = true;
  try {
    const done = await ask("/kill", {...killing, dry_run: false});
    $("#kill-preview").textContent = plural(done.killed, "session") + " killed, "
      + number(done.unreachable) + " unreachable, " + number(done.failed) + " failed.";
    drawList([...done.unreachable_sessions, ...done.failed_sessions]);
    $("#kill-note").textContent = clean(Object.keys(done.errors).join("; "))
      || (done.unreachable ? "Unreachable: their owners have no idle connection." : "");
    chosen.clear();
    loop();
  } catch (error) {
    $("#kill-note").textContent = clean(error.message);
  }
});
$("#kill-close").addEventListener("click", () => $("#kill-dialog").close());

function drawList(rows) {
  const table = make("table");
  for (const row of rows) {
    const line = make("tr");
    line.append(make("td", row.owner || "–"), make("td", row.application || "–"),
      make("td", driver(row)), make("td", row.session.slice(0, 8), {class: "mono"}));
    table.append(line);
  }
  $("#kill-list").replaceChildren(...(rows.length ? [table] : []));
}
