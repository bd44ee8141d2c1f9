"use strict";
(() => {
  const root = document.documentElement, by = (id) => document.getElementById(id);

  const theme = by("theme"), dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  const name = () => { theme.textContent = isDark() ? "Light" : "Dark"; theme.setAttribute("aria-label", `${theme.textContent} colours`); };
  theme.hidden = false;
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; name(); });
  dark.addEventListener("change", name);
  name();

  const body = by("table").tBodies[0], rows = [...body.rows], text = rows.map((row) => row.textContent.toLowerCase());
  const find = by("find"), target = by("target"), state = by("state");
  const filter = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, number) => {
      const fits = words.every((word) => text[number].includes(word))
        && (!target || !target.value || row.cells[2].querySelector("b").textContent === target.value)
        && (!state.value || row.className === state.value);
      row.hidden = !fits;
      shown += fits;
    });
    by("shown").textContent = shown === rows.length ? "" : `${shown} of ${rows.length}`;
  };
  by("filter").hidden = false;
  by("filter").addEventListener("submit", (event) => event.preventDefault());
  for (const one of [find, target, state]) if (one) one.addEventListener("input", filter);

  const order = new Map(rows.map((row, number) => [row, number]));
  const number = (row, column) => parseFloat(row.cells[column].textContent.replaceAll(",", "").replace("<", ""));
  const compare = (column, kind) => (a, b) => {
    if (kind === "rank") return order.get(a) - order.get(b);
    if (kind !== "n") return a.cells[column].textContent.localeCompare(b.cells[column].textContent, undefined, { numeric: true });
    return number(a, column) - number(b, column);
  };
  const heads = [...by("table").tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button"), kind = head.dataset.sort;
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const empty = (row) => kind === "n" && Number.isNaN(number(row, column));
      const sorted = [...rows].sort((a, b) => empty(a) - empty(b) || (up ? 1 : -1) * compare(column, kind)(a, b) || order.get(a) - order.get(b));
      body.append(...sorted);
    });
  });

  const open = () => {
    const wanted = location.hash.length > 1 && by(decodeURIComponent(location.hash.slice(1)));
    const details = wanted && wanted.querySelector("details");
    if (details && wanted.classList.contains("kernel")) details.open = true;
  };
  addEventListener("hashchange", open);
  open();
})();
