"use strict";
const ROWS = 100;

/* ---------------------------------------------------------------- asking */

const view = {name: "sessions", sort: "activity", filters: {}, after: null, page: 1};
const chosen = new Map();
let token = "";
let found = {matched: 0, next: null};
let summary = {};

async function ask(path, body) {
  const headers = token ? {authorization: "Bearer " + token} : {};
  const options = body === undefined ? {headers}
    : {method: "POST", headers: {...headers, "content-type": "application/json"},
      body: JSON.stringify(body)};
  const answer = await fetch(path, {...options, cache: "no-store", credentials: "omit"});
  if (!answer.ok) {
    const error = new Error((await answer.text()).trim() || answer.statusText);
    error.status = answer.status;
    throw error;
  }
  return answer.json();
}

/* What is typed is looked for anywhere, unless it has a star of its own or was picked whole. */
function filters() {
  const asked = {};
  for (const [name, value] of Object.entries(view.filters)) {
    const text = typeof value === "string" ? value.trim() : value.exactly;
    if (typeof value === "string" && !text) continue;
    const loose = typeof value === "string" && !["text", "state"].includes(name)
      && !text.includes("*");
    asked[name] = loose ? "*" + text + "*" : text;
  }
  return asked;
}

/* The one whose sessions are shown, "" for all. */
const cluster = () => view.filters.cluster?.exactly ?? "";

function target() {
  const kind = VIEWS[view.name];
  if (kind.whole) return "/" + view.name;
  const fields = {...filters(), sort: view.sort, limit: ROWS};
  if (view.after) fields.after = view.after;
  return "/" + view.name + "?" + new URLSearchParams(fields);
}

let turn = 0;
async function refresh() {
  const mine = ++turn;
  try {
    const [now, groups, idlest, incidents, page] = await Promise.all(
      [ask("/summary"), ask("/groups?limit=20"), ask("/transactions?sort=-idle&limit=1"),
        ask("/incidents"), ask(target())]);
    if (mine !== turn) return;
    const before = clusters().join();
    summary = now;
    if (clusters().join() !== before) {
      drawHead();
      drawFilters();
    }
    drawStatus(now);
    drawAttention(now, groups.groups, idlest.transactions, incidents.incidents);
    found = page;
    drawRows(page[view.name]);
  } catch (error) {
    if (mine !== turn) return;
    if (error.status === 401 && !$("dialog[open]")) askForToken();
    const status = $("#status");
    status.className = "pill bad";
    status.textContent = error.status === 401 ? "a token is needed"
      : error.status ? clean(error.message) : "the proxy does not answer";
  }
}

let timer = 0;
async function loop() {
  clearTimeout(timer);
  await refresh();
  const pace = Number($("#pace").value);
  clearTimeout(timer);
  if (pace) timer = setTimeout(loop, pace);
}
