"use strict";
/* ---------------------------------------------------------------- asking the proxy */

const ROWS = 100;
/* Sessions that are chosen, by the keys of their rows. */
const chosen = new Map();
let token = "";
let summary = {};
let found = {matched: 0, total: 0, next: null};
/* When the proxy last answered. */
let heard = 0;

async function ask(path, body) {
  const headers = token ? {authorization: "Bearer " + token} : {};
  const options = body === undefined ? {headers}
    : {method: "POST", headers: {...headers, "content-type": "application/json"},
      body: JSON.stringify(body)};
  const shown = token;
  // One that is held up says nothing at all; kills wait for upstream, and a long history is looked through.
  const soon = body === undefined && !path.startsWith("/history");
  const signal = AbortSignal.timeout(soon ? 10_000 : 40_000);
  const answer = await fetch(path, {...options, signal, cache: "no-store", credentials: "omit"})
    .catch((problem) => Promise.reject(Object.assign(problem, {status: 0})));
  if (!answer.ok) {
    const error = new Error((await answer.text()).trim() || answer.statusText);
    Object.assign(error, {status: answer.status, shown});
    if (error.status === 401) error.message = shown ? "wrong token" : "a token is needed";
    throw error;
  }
  return answer.json();
}

/* The one whose sessions are shown, "" for all. */
const cluster = () => view.filters.cluster ?? "";

function target() {
  const kind = VIEWS[view.name];
  if (kind.whole) return "/" + view.name;
  const fields = {...view.filters, sort: view.sort, limit: ROWS};
  if (view.after) fields.after = view.after;
  return "/" + view.name + "?" + new URLSearchParams(fields);
}

/* The rows of a view; of one that comes whole, those in which the text that is looked for is. */
function rowsIn(kind, page) {
  const rows = page[view.name];
  if (!kind.whole) return rows;
  const text = (view.filters.text ?? "").toLowerCase();
  const those = rows.filter((row) => (!cluster() || row.cluster === cluster())
    && (!text || [...Object.values(row), incident(row), why(row)].some(
      (value) => typeof value === "string" && value.toLowerCase().includes(text))));
  const down = view.sort.startsWith("-");
  const by = kind.columns.find((one) => one.by && one.sort === view.sort.slice(down ? 1 : 0))?.by;
  return by ? those.sort((one, other) => (down ? -1 : 1)
    * (by(one) < by(other) ? -1 : by(one) > by(other) ? 1 : 0)) : those;
}

/* Who has most sessions, and most of a budget, as they were last found. */
const crowds = {sessions: [], budget_used: []};

async function askForCrowds() {
  // All sessions are looked at for each, so they take turns.
  const orders = heard ? [turn % 2 ? "sessions" : "budget_used"] : Object.keys(crowds);
  await Promise.all(orders.map(async (order) => {
    crowds[order] = (await ask("/groups?limit=20&sort=-" + order)).groups;
  }));
}

let turn = 0;
async function refresh() {
  const mine = ++turn;
  const kind = VIEWS[view.name];
  // What is wrong with the view alone is no reason to show nothing else.
  const wrong = (error) => {
    if (error.status !== 400) throw error;
    return {wrong: error.message};
  };
  // It may take its time, for which nothing else has to wait.
  const own = kind.own?.($("#own"));
  own?.catch(() => {});
  try {
    const [now, , idlest, incidents, upstream, page] = await Promise.all(
      [ask("/summary"), askForCrowds(), ask("/transactions?sort=-idle&limit=20"),
        ask("/incidents"), ask("/upstream"),
        own ? null : ask(target()).catch(wrong)]);
    if (mine !== turn) return;
    heard = Date.now();
    const before = clusters().join();
    summary = now;
    if (clusters().join() !== before) {
      drawFrame();
      past.asked = "";
    }
    if (token && now.token === "wrong") {
      refuseToken();
      if (!$("dialog[open]")) askForToken();
    }
    drawStatus(now);
    drawCards(now);
    drawAttention(now, crowds, idlest.transactions, incidents.incidents, upstream.upstream);
    if (own) {
      await own;
      return;
    }
    found = page.wrong ? {matched: 0, total: 0, next: null, ...page} : page;
    drawRows(page.wrong ? [] : rowsIn(kind, page));
  } catch (error) {
    if (mine !== turn) return;
    if (error.status === undefined) console.error(error);
    drawFailure(error);
  }
}

let timer = 0;
async function loop() {
  clearTimeout(timer);
  if (!document.hidden) await refresh();
  const pace = Number($("#pace").value);
  clearTimeout(timer);
  if (pace) timer = setTimeout(loop, pace);
}

function restart() {
  chosen.clear();
  drawFrame();
  return loop();
}

/* The address says that something else is to be shown. */
function arrive() {
  const before = view.name;
  readPlace();
  const other = view.name !== before;
  // Whoever followed a link out of what is gone now goes on at the new view's name.
  const lost = other && document.activeElement.closest("#both, #own, #bar") !== null;
  if (other) {
    detail = null;
    forgetRows();
    drawDetail();
  }
  restart();
  const here = $("[aria-current=page]");
  if (lost) here.focus();
}
