// Tables sort by the column whose heading is clicked: up, down, and back to the order of the page.
(() => {
  "use strict";
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent;
    const number = Number.parseFloat(text.replace("−", "-").replaceAll(",", "").replace("inf", "Infinity"));
    return { number, text: cell.textContent.toLowerCase() };
  };
  // What has no number stays below what has one, whichever way it is sorted.
  const order = (a, b, sign) => {
    const known = [Number.isNaN(a.number), Number.isNaN(b.number)];
    if (known[0] !== known[1]) return known[0] - known[1];
    return sign * (known[0] ? a.text.localeCompare(b.text, undefined, { numeric: true }) : a.number - b.number);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    table.tHead.addEventListener("click", (event) => {
      const heading = event.target.closest("button")?.closest("th");
      if (!heading) return;
      const next = { null: "ascending", ascending: "descending", descending: null }[heading.getAttribute("aria-sort")];
      table.tHead.querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
      if (next) heading.setAttribute("aria-sort", next);
      const column = Number(heading.dataset.c);
      const rows = original.map((row) => [row, value(row, column)]);
      if (next) rows.sort((a, b) => order(a[1], b[1], next === "ascending" ? 1 : -1));
      body.append(...rows.map(([row]) => row));
    });
  }
})();
