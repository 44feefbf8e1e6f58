"use strict";
const value = (cell) => {
  const text = cell.dataset.value;
  return text === undefined ? cell.textContent : text === "" ? NaN : Number(text);
};
const compare = (a, b) => {
  if (typeof a === "string") return a.localeCompare(b, undefined, {numeric: true});
  return isNaN(a) ? (isNaN(b) ? 0 : -1) : isNaN(b) ? 1 : a - b;
};
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  for (const head of table.tHead.rows[0].cells) {
    if (!head.dataset.sort) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending"
        : head.dataset.sort === "number";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const place = head.cellIndex;
      const sign = down ? -1 : 1;
      rows.sort((a, b) => sign * compare(value(a.cells[place]), value(b.cells[place])));
      body.append(...rows);
    });
  }
}
for (const tools of document.querySelectorAll(".tools")) {
  const gallery = document.getElementById(tools.dataset.gallery);
  const items = [...gallery.children];
  const [order, only] = tools.querySelectorAll("select");
  const shown = tools.querySelector("output");
  const update = () => {
    const [key, sign] = order.value.split(" ");
    items.sort((a, b) => Number(sign) * (Number(a.dataset[key]) - Number(b.dataset[key])));
    gallery.append(...items);
    let count = 0;
    for (const item of items) {
      item.hidden = only.value !== "" && item.dataset.label !== only.value;
      if (!item.hidden) count += 1;
    }
    shown.textContent = count + " shown";
  };
  order.addEventListener("change", update);
  only.addEventListener("change", update);
  tools.hidden = false;
}
