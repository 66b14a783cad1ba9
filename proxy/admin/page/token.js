"use strict";
/* ---------------------------------------------------------------- the token

It stays in this tab until that is closed or loaded anew. */

let tokenProblem = "";

/* Who does not want to give one is not asked again and again. */
let declined = false;

function refuseToken() {
  token = "";
  declined = false;
  tokenProblem = "Wrong token: it is none of those that the proxy knows.";
}

function askForToken() {
  $("#token").value = "";
  say($("#token-problem"), tokenProblem);
  $("#token-dialog").showModal();
}

function drawKey() {
  say($("#key"), !token ? "Token…" : summary.operator ? "Token: " + summary.operator : "Token: in use");
}

function startToken() {
  $("#token-dialog").addEventListener("close", () => {
    const given = $("#token").value.trim();
    if ($("#token-dialog").returnValue === "use" && given) {
      token = given;
      tokenProblem = "";
    }
    declined = $("#token-dialog").returnValue !== "use";
    $("#token-dialog").returnValue = "";
    $("#token").value = "";
    drawKey();
    loop();
  });
  $("#key").addEventListener("click", askForToken);
}
