"use strict";
/* ---------------------------------------------------------------- and now */

startKeys();
startToken();
startActs();

$("#pace").addEventListener("change", loop);
$("#filters").addEventListener("submit", (event) => event.preventDefault());
$("#clear").addEventListener("click", () => {
  show(view.name, cluster() ? {cluster: cluster()} : {}, view.sort);
  $("#fields input").focus();
});
$("#first").addEventListener("click", () => { view.after = null; view.page = 1; restart(); });
$("#next").addEventListener("click", () => { view.after = found.next; view.page++; restart(); });
$("#fitting").addEventListener("click", () => pick(null));
$("#detail-close").addEventListener("click", closeDetail);
$("#help").addEventListener("click", () => $("#help-dialog").showModal());
$("#columns").addEventListener("focusout", (event) => {
  if (event.relatedTarget && !$("#columns").contains(event.relatedTarget)) $("#columns").open = false;
});
const narrowScreen = matchMedia("(max-width: 640px)");
const fold = () => { $("#folded").open = !narrowScreen.matches; };
narrowScreen.addEventListener("change", fold);
fold();
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width) return;
  width = innerWidth;
  refit();
});
addEventListener("hashchange", arrive);
document.addEventListener("visibilitychange", () => { if (!document.hidden) loop(); });
arrive();
