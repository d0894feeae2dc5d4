// Moves by keyboard. Whatever a key does, a link or a button on the page does too.
"use strict";

const pairs = [...document.querySelectorAll("article.pair")];
const listed = document.querySelector("details.filters") !== null;
const help = document.getElementById("help");
let touched = false;

function current() {
  return document.activeElement?.closest?.("article.pair") ?? null;
}

function show(pair) {
  pair?.focus({ preventScroll: true });
  pair?.scrollIntoView({ block: "start" });
}

function follow(selector) {
  const link = document.querySelector(selector);
  link?.click();
  return link !== null;
}

function move(step) {
  const way = step > 0 ? "a[rel=next]" : "a[rel=prev]";
  if (!listed) return follow(way);
  const at = pairs.indexOf(current());
  const next = at < 0 ? (step > 0 ? 0 : pairs.length - 1) : at + step;
  if (pairs[next]) show(pairs[next]);
  else follow(way);
}

function press(selector) {
  const button = (current() ?? (listed ? null : pairs[0]))?.querySelector(selector);
  if (button && !button.disabled) button.click();
}

const KEYS = {
  j: () => move(1), ArrowDown: () => listed && move(1), ArrowRight: () => !listed && move(1),
  k: () => move(-1), ArrowUp: () => listed && move(-1), ArrowLeft: () => !listed && move(-1),
  r: () => press("button[value=right].mark"),
  f: () => press("button[value=flipped].mark"),
  b: () => press("button[value=both_bad].mark"),
  u: () => press("button.unmark"),
  n: () => (current() ?? pairs[0])?.querySelector("input[name=why]")?.focus(),
  o: () => current()?.querySelector("a.open")?.click(),
  Enter: () => document.activeElement === current() && current()?.querySelector("a.open")?.click(),
  l: () => follow("a.list"),
  Escape: () => listed || follow("a.list"),
  "/": () => { const box = document.getElementById("search"); if (box) { box.closest("details").open = true; box.focus(); } },
  "?": () => help?.showModal(),
};
const SCROLLS = ["ArrowDown", "ArrowUp", "ArrowLeft", "ArrowRight"]; // inside a text they scroll it

document.addEventListener("keydown", (event) => {
  touched = true;
  const at = document.activeElement;
  if (event.ctrlKey || event.metaKey || event.altKey || help?.open) return;
  if (at?.matches?.("input, select, textarea")) {
    if (event.key === "Escape") show(at.closest("article.pair") ?? pairs[0]);
    return;
  }
  if (SCROLLS.includes(event.key) && at?.matches?.(".text, .scroll")) return;
  if (event.key === "Enter" && at?.matches?.("a, button, summary")) return;
  const does = KEYS[event.key];
  if (!does) return;
  if (event.key !== "Enter") event.preventDefault();
  does();
});
document.addEventListener("pointerdown", () => { touched = true; });
document.querySelector("button.help")?.addEventListener("click", () => help?.showModal());

const filters = document.querySelector("details.filters");
if (filters && matchMedia("(max-width: 40rem)").matches) filters.open = false;
if (location.hash) show(document.getElementById(location.hash.slice(1)));
if (document.querySelector("[data-unfinished]")) {
  setTimeout(() => { if (!touched) location.reload(); }, 1500); // what is still being read comes in by itself
}
