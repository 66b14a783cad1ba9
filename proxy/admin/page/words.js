"use strict";
/* ---------------------------------------------------------------- texts

Names come from clients and may be hostile: they are only ever set as text, and what is invisible or
turns text around is shown by its number. */

const $ = (selector) => document.querySelector(selector);

const clean = (value) => String(value ?? "").replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu,
  (c) => "\\u{" + c.codePointAt(0).toString(16) + "}");

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = clean(text);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function span(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 1) return Math.round(seconds * 1000) + " ms";
  if (seconds < 60) return seconds.toFixed(1) + " s";
  const s = Math.floor(seconds);
  if (s < 3600) return Math.floor(s / 60) + " m " + (s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor(s % 3600 / 60) + " m";
  return Math.floor(s / 86400) + " d " + Math.floor(s % 86400 / 3600) + " h";
}

/* How long requests take: below 10 ms with digits that tell them apart. */
const brief = (seconds) => seconds === null || seconds === undefined ? ""
  : seconds < 0.01 ? Number((seconds * 1000).toPrecision(2)) + " ms" : span(seconds);

/* The time of day so many seconds ago, with the date unless it is today's. */
const since = (seconds) => moment(Date.now() - seconds * 1000);

function moment(time) {
  const then = new Date(time);
  const day = then.toDateString() === new Date().toDateString() ? ""
    : then.toLocaleDateString("sv") + " ";
  return day + then.toLocaleTimeString("sv");
}

const number = (value) => (value ?? 0).toLocaleString("en");
const plural = (count, word) => number(count) + " " + word + (count === 1 ? "" : "s");

function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  for (value = value ?? 0; value >= 1000 && at < units.length - 1; at++) value /= 1000;
  return (at ? value.toFixed(1) : value) + " " + units[at];
}

const driver = (row) => ((row.driver ?? "") + " " + (row.driver_version ?? "")).trim();

const operations = (row) => (row.operations ?? [])
  .map((one) => one.command + " " + span(one.seconds)).join(", ");

/* One word for who is not logged in, wherever it stands. */
const NOBODY = "nobody";
const person = (name) => name || [NOBODY, "dim"];

/* Who did something, if it was done; an incident has an owner as well, of the session that was used. */
const whose = (row) => [...(row.cluster ? [row.cluster] : []), (row.user ?? row.owner) || NOBODY,
  row.application || "no application name", driver(row) || "unknown driver"].join(" · ");
