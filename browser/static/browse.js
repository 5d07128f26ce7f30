// Keys, completion of concepts, and heat maps over an image. Without it every page works by links and forms.
"use strict";

const grid = document.querySelector("[data-grid]");
const tiles = grid ? [...grid.querySelectorAll("a.tile")] : [];

function follow(selector) {
  const link = document.querySelector(selector);
  if (link) link.click();
}

function across() {
  if (tiles.length < 2) return 1;
  const top = tiles[0].getBoundingClientRect().top;
  const n = tiles.findIndex((tile) => tile.getBoundingClientRect().top > top + 1);
  return n < 0 ? tiles.length : n;
}

function move(steps) {
  const at = tiles.indexOf(document.activeElement);
  const to = at < 0 ? 0 : at + steps;
  if (to >= tiles.length && Math.abs(steps) === 1) return follow(".pager a[rel=next]");
  if (to < 0 && Math.abs(steps) === 1) return follow(".pager a[rel=prev]");
  const tile = tiles[Math.min(Math.max(to, 0), tiles.length - 1)];
  if (tile) tile.focus();
}

const keys = {
  "j": () => (tiles.length ? move(1) : follow(".steps a[rel=next]")),
  "ArrowRight": () => keys.j(),
  "k": () => (tiles.length ? move(-1) : follow(".steps a[rel=prev]")),
  "ArrowLeft": () => keys.k(),
  "ArrowDown": () => tiles.length && move(across()),
  "ArrowUp": () => tiles.length && move(-across()),
  "n": () => follow(".pager a[rel=next]"),
  "p": () => follow(".pager a[rel=prev]"),
  "u": () => follow("[data-up]"),
  "h": nextMap,
  "m": () => { const mark = document.querySelector(".review select"); if (mark) mark.focus(); },
  "/": () => { const field = document.querySelector("[data-complete], [data-search]"); if (field) { field.focus(); field.select(); } },
  "?": () => { location.href = "/help"; },
};

document.addEventListener("keydown", (event) => {
  const field = event.target.closest("input, select, textarea");
  if (field && field.tagName === "TEXTAREA" && event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    field.form.requestSubmit();
    return;
  }
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (field) {
    if (event.key === "Escape") field.blur();
    return;
  }
  const act = keys[event.key];
  const scrolls = event.key === "ArrowDown" || event.key === "ArrowUp";
  if (!act || (scrolls && !tiles.length)) return;
  event.preventDefault();
  act();
});

// Concepts that fit what was typed so far.
const field = document.querySelector("[data-complete]");
if (field) {
  const list = document.getElementById(field.getAttribute("list"));
  let asked = 0;
  field.addEventListener("input", async () => {
    const number = ++asked;
    await new Promise((done) => setTimeout(done, 120));
    if (number !== asked) return;
    const answer = await fetch("/complete?q=" + encodeURIComponent(field.value));
    if (!answer.ok || number !== asked) return;
    const found = await answer.json();
    list.replaceChildren(...found.map(({ cui, name }) => {
      const option = document.createElement("option");
      option.value = name === cui ? cui : name + " (" + cui + ")";
      return option;
    }));
  });
}

// Heat maps.
const viewer = document.querySelector("[data-viewer]");
const buttons = [...document.querySelectorAll(".where")];

async function show(button) {
  const heat = viewer.querySelector("[data-heat]");
  const caption = viewer.querySelector("[data-heat-caption]");
  const pressed = button.getAttribute("aria-pressed") === "true";
  for (const each of buttons) each.setAttribute("aria-pressed", "false");
  const scale = viewer.querySelector("[data-scale]");
  const shown = (is) => { heat.hidden = scale.hidden = !is; viewer.classList.toggle("heated", is); };
  shown(false);
  if (pressed) { caption.textContent = ""; return; }
  button.setAttribute("aria-busy", "true");
  const name = button.dataset.name;
  const began = Date.now();
  const tell = () => {
    const seconds = Math.round((Date.now() - began) / 1000);
    caption.textContent = "The map is being computed (" + seconds + " s); the first one reads the network, which may take a minute.";
  };
  tell();
  const clock = setInterval(tell, 1000);
  const address = "/heat/" + viewer.dataset.row + ".png?cui=" + encodeURIComponent(button.dataset.cui);
  const answer = await fetch(address).finally(() => clearInterval(clock));
  button.removeAttribute("aria-busy");
  if (!answer.ok) { caption.textContent = await answer.text(); return; }
  const bytes = new Uint8Array(await answer.arrayBuffer());
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  heat.src = "data:image/png;base64," + btoa(text);
  heat.alt = "Heat map of " + name;
  shown(true);
  button.setAttribute("aria-pressed", "true");
  caption.textContent = "Yellow places speak most for " + name + ", by one detector (it says " + Number(answer.headers.get("x-probability")).toFixed(2) + "): evidence, no proof, and not the ensemble's. Choose again to hide.";
}

function nextMap() {
  if (!viewer || !buttons.length) return;
  const at = buttons.findIndex((each) => each.getAttribute("aria-pressed") === "true");
  show(buttons[(at + 1) % buttons.length]);
}

for (const button of buttons) button.addEventListener("click", () => show(button));
