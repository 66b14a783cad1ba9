"use strict";
/* ---------------------------------------------------------------- where one is

What is shown is what the address says after #, so that it can be linked to, gone back to and opened
once more: `#transactions?sort=-idle&application=shop*` is a view and the fields that its JSON takes.
The token is never in it. */

const view = {name: "sessions", sort: "", filters: {}, after: null, page: 1};

/* The address of a view; filters are patterns, in which * stands for anything. */
function link(name, filters = {}, sort = "") {
  const fields = new URLSearchParams(filters);
  if (sort && sort !== VIEWS[name].sort) fields.set("sort", sort);
  const asked = String(fields).replace(/%(40|3A|2F|2C)/g, decodeURIComponent);
  return "#" + name + (asked && "?" + asked);
}

function readPlace() {
  const [, name, asked] = /^#?([^?]*)\??(.*)$/s.exec(location.hash);
  const fields = new URLSearchParams(asked);
  view.name = Object.hasOwn(VIEWS, name) ? name : "sessions";
  view.sort = fields.get("sort") || VIEWS[view.name].sort || "";
  fields.delete("sort");
  view.filters = Object.fromEntries(fields);
  view.after = null;
  view.page = 1;
}

function show(name, filters, sort) {
  const place = link(name, filters, sort);
  if (location.hash === place) arrive();
  else location.hash = place;
}

/* What is typed is looked for anywhere, unless it has a star of its own or stands in quotes. */
const LITERAL = ["text", "state", "cluster", "min_age", "min_idle"];

function pattern(name, text) {
  if (LITERAL.includes(name) || text.includes("*")) return text;
  return /^".*"$/s.test(text) ? text.slice(1, -1) : "*" + text + "*";
}

function typed(name, asked) {
  if (LITERAL.includes(name)) return asked;
  const inner = asked.slice(1, -1);
  if (/^\*.+\*$/s.test(asked) && !inner.includes("*")) return inner;
  return asked.includes("*") ? asked : '"' + asked + '"';
}

/* Another filter, while it is being typed: no step that one would go back to. */
let typing = 0;
function narrow(name, text) {
  text = text.trim();
  if (text) view.filters[name] = pattern(name, text);
  else delete view.filters[name];
  clearTimeout(typing);
  typing = setTimeout(() => {
    history.replaceState(null, "", link(view.name, view.filters, view.sort));
    arrive();
  }, 200);
}

function order(one) {
  const sort = view.sort === one.sort ? "-" + one.sort
    : view.sort === "-" + one.sort ? one.sort : one.number || one.most ? "-" + one.sort : one.sort;
  show(view.name, view.filters, sort);
}
