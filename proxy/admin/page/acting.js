"use strict";
/* ---------------------------------------------------------------- acting */

function show(name, picked, sort) {
  view.name = name;
  view.sort = sort ?? VIEWS[name].sort;
  view.filters = Object.fromEntries(Object.entries(picked).map(
    ([field, value]) => [field, field === "text" ? value : {exactly: value}]));
  restart();
  drawTabs();
  drawFilters();
}

let typing = 0;
function narrow(name, value) {
  view.filters[name] = value;
  clearTimeout(typing);
  typing = setTimeout(restart, 200);
}

function order(one) {
  view.sort = view.sort === one.sort ? "-" + one.sort
    : view.sort === "-" + one.sort ? one.sort : one.number ? "-" + one.sort : one.sort;
  restart();
}

function restart() {
  view.after = null;
  view.page = 1;
  chosen.clear();
  drawHead();
  loop();
}

function askForToken() {
  $("#token").value = "";
  $("#token-dialog").showModal();
}

$("#token-dialog").addEventListener("close", () => {
  const given = $("#token").value.trim();
  if ($("#token-dialog").returnValue === "use" && given) token = given;
  $("#token").value = "";
  loop();
});
$("#key").addEventListener("click", askForToken);
$("#pace").addEventListener("change", loop);
$("#filters").addEventListener("submit", (event) => event.preventDefault());
$("#first").addEventListener("click", () => { view.after = null; view.page = 1; loop(); });
$("#next").addEventListener("click", () => { view.after = found.next; view.page++; loop(); });
