"use strict";
/* ---------------------------------------------------------------- what stays while it changes

Whatever is shown again and again is patched and never made anew: keyboard focus, selected text and
the places that things are scrolled to are those of elements, and go with them. */

const KNOWN = new WeakMap();

/* Have `parent` hold an element for each of `items`, in their order. An item whose `key` it had
before keeps its element. `create` makes one, `update(element, item)` says what is in it. */
function patch(parent, items, key, create, update) {
  const before = KNOWN.get(parent) ?? new Map();
  const now = new Map();
  for (const item of items) {
    let name = key(item);
    while (now.has(name)) name += " ";
    const element = before.get(name) ?? create(item);
    update(element, item);
    now.set(name, element);
  }
  KNOWN.set(parent, now);
  const focused = [...before].findIndex(([, one]) => one.contains(document.activeElement));
  for (const [name, element] of before) if (!now.has(name)) element.remove();
  arrange(parent, [...now.values()]);
  if (focused >= 0 && !parent.contains(document.activeElement)) {
    // Whoever had the focus is gone: what stands in its place has it.
    const next = [...now.values()][Math.min(focused, now.size - 1)];
    (next?.matches("[tabindex], a, button") ? next : next?.querySelector("a, button"))?.focus();
  }
}

/* Elements that are moved lose focus and selection, so those that have it stay, and the others are
moved around them. */
function arrange(parent, wanted) {
  const selection = document.getSelection();
  const selected = selection.isCollapsed ? null : selection.anchorNode;
  const stays = Math.max(0, wanted.findIndex((one) => one.contains(document.activeElement)
    || (selected && one.contains(selected))));
  if (!wanted.length) return;
  if (wanted[stays].parentNode !== parent) parent.append(wanted[stays]);
  for (let at = stays - 1; at >= 0; at--) {
    if (wanted[at].nextSibling !== wanted[at + 1]) parent.insertBefore(wanted[at], wanted[at + 1]);
  }
  for (let at = stays + 1; at < wanted.length; at++) {
    const next = wanted[at - 1].nextSibling;
    if (next !== wanted[at]) parent.insertBefore(wanted[at], next);
  }
}

/* Say `text` in an element, in the node that it has for that. */
function say(element, text) {
  const shown = clean(text);
  const node = element.firstChild;
  if (element.childNodes.length !== 1 || node.nodeType !== Node.TEXT_NODE) {
    element.textContent = shown;
  } else if (node.data !== shown) {
    node.data = shown;
  }
}

/* The same for a text, or [text, level]: levels "good", "warn" and "bad" are a pill. */
function tell(element, value) {
  const [text, level] = Array.isArray(value) ? value : [value, ""];
  if (element.dataset.level !== level) {
    element.dataset.level = level;
    element.replaceChildren(...(level ? [make("span", "")] : []));
    if (level) element.firstChild.className = level === "dim" ? "dim" : "pill " + level;
  }
  say(level ? element.firstChild : element, text);
}

function set(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}
