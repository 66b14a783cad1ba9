"use strict";
/* ---------------------------------------------------------------- what happened

The history: lines of how much there was of everything, with what is rare marked in them, and below
a list of what happened. A stretch that is chosen with the mouse in any of the lines, or by its two
times, is what the list is of. */

const LINES = [
  ["Sessions", (one) => one.sessions, "--accent"],
  ["Open transactions", (one) => one.transactions, "--warn"],
  ["Operations a second", (one, step) => one.requests / step, "--accent"],
  ["Refusals", (one) => one.refused, "--bad"],
];
/* What is marked in the lines; and an election, which is a topology with another primary. */
const MARKED = ["proxy_started", "proxy_stopping", "reloaded", "worker_died", "kill", "sessions_killed",
  "abort", "close", "interrupt", "topology", "upstream_down", "upstream_up"];
const RANGES = [["15m", "15 minutes"], ["1h", "1 hour"], ["6h", "6 hours"], ["1d", "1 day"]];
const MOST_LISTED = 300;
const MOST_MARKED = 6;

const past = {plots: [], marks: [], asked: "", since: 0, until: 0, step: 0, rests: 0, stretch: null, built: false};

const clock = (time, withDate) => {
  const then = new Date(time);
  return (withDate ? then.toLocaleDateString("sv") + " " : "") + then.toLocaleTimeString("sv");
};
const severalDays = (from, to) => new Date(from).toDateString() !== new Date(to).toDateString();
const severalClusters = () => clusters().length > 0;

/* ---- asking */

const bare = (text) => text.replace(/\*/g, "");

function filtersOfPast() {
  const {since, until, session, ...fields} = view.filters;
  return session ? {...fields, session: bare(session)} : fields;
}

async function drawPast(element) {
  if (!past.built) buildPast(element);
  const {since = "1h", until = ""} = view.filters;
  const range = until ? {since, until} : {since};
  const whole = {...range, points: 300, limit: 200, event: MARKED.join(",")};
  if (cluster()) whole.cluster = cluster();
  const stretch = past.stretch ? {since: past.stretch[0], until: past.stretch[1]} : range;
  const list = {...filtersOfPast(), ...stretch, points: 1, limit: MOST_LISTED};
  // Of what goes on the latest come first.
  if (!list.until) list.sort = "-time";
  const asked = JSON.stringify([whole, list]);
  // What is over stays as it was; and the proxy has other things to do than to look through very much.
  if (asked === past.asked && (until || Date.now() < past.rests)) return {};
  const began = Date.now();
  let lines, rows;
  try {
    [lines, rows] = await Promise.all([whole, list].map(askPast));
    rows = await fewer(rows, list);
  } catch (error) {
    if (error.status !== 400) throw error;
    say($("#past-sum"), error.message);
    return {};
  }
  past.asked = asked;
  past.rests = Date.now() + Math.min(60_000, 10 * (Date.now() - began));
  drawLines(lines, since, until);
  drawPastList(rows);
  return {};
}

function askPast(fields) {
  return ask("/history?" + new URLSearchParams(fields));
}

/* Of more than can be listed what is rare. */
async function fewer(page, asked) {
  const {matched, counts} = page;
  const rare = matched > MOST_LISTED && !asked.event;
  if (rare) page = await askPast({...asked, event: RARE});
  return {...page, matched, counts, rare, among: page.matched, latest: asked.sort === "-time"};
}

/* ---- lines */

const colour = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();

function buildPast(element) {
  past.built = true;
  const bar = make("div", null, {id: "past-bar"});
  for (const [value, words] of RANGES) {
    const way = make("a", words, {class: "button", "data-range": value,
      "aria-label": "The last " + words});
    bar.append(way);
  }
  for (const [name, words] of [["since", "From"], ["until", "To"]]) {
    const label = make("label", words);
    const field = make("input", null, {type: "datetime-local", step: "1", id: "past-" + name});
    field.addEventListener("change", () => {
      if (field.value) go({[name]: new Date(field.value).toISOString()});
    });
    label.append(field);
    bar.append(label);
  }
  const around = make("label", "Around");
  const field = make("input", null, {type: "time", id: "past-around",
    title: "Ten minutes before and after this time of day, the last that there was"});
  field.addEventListener("change", () => {
    if (field.value) go(aroundTime(field.value, new Date()));
  });
  around.append(field);
  bar.append(around);
  const label = make("label", "What");
  const what = make("select", null, {id: "past-event"});
  what.append(make("option", "everything", {value: ""}));
  for (const [value, words] of Object.entries(EVENTS)) what.append(make("option", words, {value}));
  what.addEventListener("change", () => go({event: what.value || undefined}));
  label.append(what);
  bar.append(label);
  const chosenStretch = make("div", null, {id: "past-stretch"});
  chosenStretch.hidden = true;
  const near = make("button", "Look closer", {type: "button"});
  near.addEventListener("click", () => {
    const [from, to] = past.stretch;
    past.stretch = null;
    go({since: new Date(from * 1000).toISOString(), until: new Date(to * 1000).toISOString()});
  });
  const all = make("button", "All of it", {type: "button"});
  all.addEventListener("click", () => chooseStretch(null));
  chosenStretch.append(make("span", ""), near, all);
  const plots = make("div", null, {id: "past-lines"});
  const marked = make("ul", null, {id: "past-marks", "aria-label": "What is marked"});
  const marks = make("p", "", {id: "past-sum", class: "dim"});
  const table = make("div", null,
    {class: "table", role: "region", "aria-label": "What happened", tabindex: "0"});
  const inner = make("table");
  const head = make("tr");
  for (const title of ["Time", "Cluster", "What", "User", "Application", "Driver", "Client", "Session"]) {
    head.append(make("th", title, {scope: "col"}));
  }
  inner.append(make("thead"), make("tbody", null, {id: "past-rows"}));
  inner.firstChild.append(head);
  table.append(inner);
  element.append(bar, plots, marked, chosenStretch, marks, table);
  addEventListener("resize", () => past.plots.forEach((one) => one.setSize(sizeOfPlot())));
}

/* The last 03:12 that there was, with what is ten minutes around it. */
function aroundTime(time, now) {
  const then = new Date(now);
  then.setHours(...time.split(":").map(Number), 0, 0);
  if (then > now) then.setDate(then.getDate() - 1);
  const at = (minutes) => new Date(Math.min(then.getTime() + minutes * 60_000, now)).toISOString();
  return {since: at(-10), until: at(10)};
}

function go(fields) {
  const filters = {...view.filters, ...fields};
  for (const [name, value] of Object.entries(filters)) if (value === undefined) delete filters[name];
  past.stretch = "since" in fields || "until" in fields ? null : past.stretch;
  show("history", filters);
}

function chooseStretch(stretch) {
  past.stretch = stretch;
  past.asked = "";
  past.plots.forEach(drawStretch);
  loop();
}

/* What was in the minute around a time, or in as much as can be told apart. */
const chooseMinute = (at) => chooseStretch([at - Math.max(30, past.step), at + Math.max(30, past.step)]);
let pressed = 0;

/* As wide as one of the columns that the style makes of the room there is. */
const sizeOfPlot = () => ({width:
  Math.max(240, Math.floor(parseFloat(getComputedStyle($("#past-lines")).gridTemplateColumns))),
height: 140});

function newPlot(title, tone) {
  const axis = {stroke: () => colour("--dim"), grid: {stroke: () => colour("--line"), width: 1},
    ticks: {show: false}, font: "12px system-ui"};
  return new uPlot({
    ...sizeOfPlot(), title, legend: {show: false},
    cursor: {sync: {key: "past"}, drag: {x: true, y: false, setScale: false}},
    scales: {x: {range: () => [past.since, past.until]},
      y: {range: (u, low, high) => [0, Math.max(1, high * 1.1)]}},
    axes: [{...axis, size: 30, space: 70, values: (u, splits) => splits.map(timeOfAxis)}, {...axis, size: 52}],
    series: [{}, {stroke: () => colour(tone), width: 1.5, points: {show: false},
      fill: () => colour(tone) + "22"}],
    hooks: {
      ready: [(u) => u.over.addEventListener("click", (event) => {
        // Whoever drags has chosen a stretch.
        const {left} = u.over.getBoundingClientRect();
        if (Math.abs(event.clientX - pressed) < 3) chooseMinute(u.posToVal(event.clientX - left, "x"));
      }), (u) => u.over.addEventListener("mousedown", (event) => { pressed = event.clientX; })],
      draw: [drawMarks],
      setSelect: [(u) => {
        if (u.select.width < 3) return;
        const from = u.posToVal(u.select.left, "x");
        chooseStretch([from, u.posToVal(u.select.left + u.select.width, "x")]);
      }],
    },
  }, [[], []], $("#past-lines"));
}

/* As short as the range allows. */
function timeOfAxis(at) {
  const text = clock(at * 1000, false);
  const range = past.until - past.since;
  return range < 900 ? text : range < 2 * 86400 ? text.slice(0, 5)
    : new Date(at * 1000).toLocaleDateString("sv").slice(5);
}

/* Show the stretch that is chosen in a line, which may have moved. */
function drawStretch(u) {
  const [from, to] = past.stretch ?? [0, 0];
  const left = past.stretch ? u.valToPos(from, "x") : 0;
  const width = past.stretch ? u.valToPos(to, "x") - left : 0;
  u.setSelect({left, width, top: 0, height: width ? u.over.clientHeight : 0}, false);
}

function drawMarks(u) {
  const {ctx, bbox} = u;
  ctx.save();
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([4, 3]);
  for (const one of past.marks) {
    ctx.strokeStyle = colour(["kill", "worker_died", "upstream_down", "sessions_killed"].includes(one.event)
      ? "--bad" : "--edge");
    const x = Math.round(u.valToPos(one.at, "x", true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

function drawLines(page, since, until) {
  past.since = Date.parse(page.since) / 1000;
  past.until = Date.parse(page.until) / 1000;
  past.marks = page.events.map((row) => ({...row, at: Date.parse(row.time) / 1000}));
  drawMarked();
  const step = page.step_seconds;
  past.step = step;
  if (!past.plots.length) past.plots = LINES.map(([title, , tone]) => newPlot(title, tone));
  const times = [];
  const known = [];
  for (const one of page.samples) {
    const at = Date.parse(one.time) / 1000;
    // Where nothing was sampled nobody knows: the proxy was away.
    if (times.length && at - times.at(-1) > 3 * step) {
      times.push(times.at(-1) + step);
      known.push(null);
    }
    times.push(at);
    known.push(one);
  }
  LINES.forEach(([title, value], at) => {
    const values = known.map((one) => one && value(one, step));
    past.plots[at].setData([times, values]);
    drawStretch(past.plots[at]);
    const most = Math.max(0, ...values.filter((one) => one !== null));
    set(past.plots[at].root, "role", "img");
    set(past.plots[at].root, "aria-label", title + ": at most "
      + (Number.isInteger(most) ? number(most) : most.toFixed(1)));
  });
  for (const way of document.querySelectorAll("#past-bar [data-range]")) {
    const {range} = way.dataset;
    set(way, "href", link("history", {...filtersOfPast(), since: range}));
    set(way, "aria-current", !until && since === range ? "true" : null);
  }
  for (const [name, at] of [["since", past.since], ["until", past.until]]) {
    const field = $("#past-" + name);
    if (document.activeElement !== field) {
      field.value = new Date((at - new Date(at * 1000).getTimezoneOffset() * 60) * 1000)
        .toISOString().slice(0, 19);
    }
  }
  $("#past-event").value = view.filters.event ?? "";
}

/* What the marks are, the latest first; each leads to the minute around it. */
function drawMarked() {
  const days = severalDays(past.since * 1000, past.until * 1000);
  const latest = past.marks.slice(-MOST_MARKED).reverse();
  patch($("#past-marks"), latest, (one) => one.time + one.event + (one.cluster ?? ""), (one) => {
    const line = make("li");
    const way = make("button", null, {type: "button"});
    way.addEventListener("click", () => chooseMinute(one.at));
    line.append(way);
    return line;
  }, (line, one) => say(line.firstChild, clock(one.time, days) + " "
    + (severalClusters() && one.cluster ? one.cluster + ": " : "") + happened(one)));
}

/* ---- the list */

function drawPastList(page) {
  const days = severalDays(page.since, page.until);
  $("#past-stretch").hidden = !past.stretch;
  if (past.stretch) {
    say($("#past-stretch span"), "From " + clock(page.since, days) + " to " + clock(page.until, days));
  }
  const counts = countsOf(page.counts);
  const shown = page.events.length;
  const begin = page.remembered_since === null ? " Nothing is remembered yet."
    : page.remembered_since > page.since
      ? " Remembered since " + clock(page.remembered_since, true) + "." : "";
  say($("#past-sum"), plural(page.matched, "event") + (counts ? ": " + counts : "") + "."
    + (page.rare ? " Listed is what is rare" + (page.among > shown ? "" : ".") : "")
    + (page.among > shown ? (page.rare ? ", of that " : " Listed are ") + (page.latest ? "the latest " : "the first ")
      + number(shown) + ": choose a stretch of it." : "")
    + begin);
  const rows = page.latest ? [...page.open_meanwhile, ...page.events]
    : [...page.events, ...page.open_meanwhile];
  const several = severalClusters();
  $("#past-rows").previousSibling.firstChild.children[1].hidden = !several;
  patch($("#past-rows"), rows, (row) => row.time + row.event + (row.session ?? "")
    + (row.transaction ?? "") + row.user + row.application + (row.cluster ?? ""), () => {
    const line = make("tr");
    for (let at = 0; at < 8; at++) line.append(make("td"));
    line.children[2].className = "long";
    line.children[2].append(make("span"), make("span", null, {class: "who dim"}));
    line.children[7].append(make("a", null, {class: "mono"}));
    return line;
  }, (line, row) => {
    const cells = line.children;
    // What an operator did has nobody's user.
    const somebody = row.user || row.application || row.session || (row.client && row.command !== "kill");
    tell(cells[0], clock(row.time, days) + row.time.slice(19, 23));
    cells[1].hidden = !several;
    tell(cells[1], row.cluster ?? "");
    const [what, who] = cells[2].children;
    say(what, happened(row));
    // Where there is no room for the columns that say it.
    say(who, somebody ? [row.user || NOBODY, row.application].filter(Boolean).join(" · ") : "");
    tell(cells[3], somebody ? person(row.user) : "");
    tell(cells[4], row.application);
    tell(cells[5], driver(row));
    tell(cells[6], row.client);
    const way = cells[7].firstChild;
    way.hidden = !row.session;
    say(way, (row.session ?? "").slice(0, 8));
    if (row.session) {
      const {since, until} = view.filters;
      const range = until ? {since, until} : since ? {since} : {};
      set(way, "href", link("history", {...range, ...ofCluster(row), session: row.session}));
      set(way, "title", "All that is remembered of " + row.session);
    }
  });
}

VIEWS.history = {title: "History", sort: "", own: drawPast, key: (row) => row.time,
  states: [], acts: [], columns: [],
  filters: ["text", "user", "application", "driver", "client"], apart: ["since", "until", "event"]};
