// A click on a column's name sorts its table: numbers by size, words by the alphabet. Below: cards.
"use strict";

const value = (row, column) => row.cells[column].textContent.trim();

// "1 in 1,600" and "6.3 × 10⁻⁷" as numbers; what says nothing is below all.
function size(text) {
  const share = text.match(/^1 in ([\d,.]+)/);
  if (share) return 1 / Number(share[1].replaceAll(",", ""));
  const found = text.replace("−", "-").replaceAll(",", "").match(/-?\d+(\.\d+)?(\s×\s10([⁻⁰¹²³⁴-⁹]+))?/);
  if (!found) return -Infinity;
  const raised = (found[3] || "⁰").replace("⁻", "-").replace(/[⁰¹²³⁴-⁹]/g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹".indexOf(c));
  return parseFloat(found[0]) * 10 ** Number(raised);
}

function sort(table, heading) {
  const column = heading.cellIndex;
  const falling = heading.getAttribute("aria-sort") === "ascending";
  const numbers = heading.classList.contains("number");
  const order = (a, b) => numbers
    ? size(value(a, column)) - size(value(b, column))
    : value(a, column).localeCompare(value(b, column), "en", { numeric: true });
  const rows = [...table.tBodies[0].rows].sort((a, b) => (falling ? order(b, a) : order(a, b)));
  table.tBodies[0].append(...rows);
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
}

for (const table of document.querySelectorAll("table.dataframe")) {
  if (!table.tHead || table.tBodies[0].rows.length < 3) continue;
  for (const heading of table.tHead.rows[0].cells) {
    const name = heading.textContent;
    if (!name.trim()) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort by this column";
    button.textContent = name;
    button.addEventListener("click", () => sort(table, heading));
    heading.replaceChildren(button);
  }
}

// A link to a folded card opens it.
function openTarget() {
  const card = document.getElementById(location.hash.slice(1));
  if (card?.tagName !== "DETAILS") return;
  card.open = true;
  card.scrollIntoView();
}

addEventListener("hashchange", openTarget);
openTarget();
