// One key per answer: a key clicks the element with that data-key. Nothing here reads or writes merchant text.
"use strict";

const named = (key) =>
  [...document.querySelectorAll("[data-key]")].find((e) => e.dataset.key === key || e.dataset.also === key);

document.addEventListener("keydown", (event) => {
  const active = document.activeElement;
  const typing = active && active.matches("input, textarea");
  if (event.key === "Escape" && typing) active.blur();
  if (typing || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.querySelector("dialog[open]")) return; // the dialog has its own keys
  const pressing = event.key === "Enter" || event.key === " ";
  if (pressing && active && active.matches("button, a, summary")) return; // the key is for the focused element
  const field = document.querySelector(`[data-focus="${CSS.escape(event.key)}"]`);
  const target = named(event.key);
  if (!field && !target) return;
  event.preventDefault();
  if (field) field.focus();
  else target.click();
});

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  if (opener) document.getElementById(opener.dataset.opens).showModal();
});

// The search field above a list of policies hides those that do not contain what is typed.
document.addEventListener("input", (event) => {
  if (!event.target.matches("[data-filters]")) return;
  const words = event.target.value.trim().toLowerCase();
  for (const row of event.target.parentElement.querySelectorAll(".policies li"))
    row.hidden = !row.textContent.toLowerCase().includes(words);
});
