"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => row.cells[column].dataset.sort ?? "";
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const falling = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const compare = (a, b) => {
      const [x, y] = [key(a, column), key(b, column)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const [m, n] = [Number(x), Number(y)];
      const order = Number.isNaN(m) || Number.isNaN(n) ? x.localeCompare(y) : m - n;
      return falling ? -order : order;
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }));
}
const viewer = document.getElementById("viewer");
for (const button of document.querySelectorAll("button.zoom")) {
  button.addEventListener("click", () => {
    const small = button.querySelector("img");
    const large = viewer.querySelector("img");
    large.src = small.src;
    large.alt = small.alt;
    const caption = button.parentNode.querySelector("figcaption").cloneNode(true);
    viewer.querySelector(".said").replaceChildren(...caption.childNodes);
    viewer.showModal();
  });
}
viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
// A table that goes on to the right fades out there.
const regions = [...document.querySelectorAll("main .scroll")];
const fade = (region) => region.classList.toggle(
  "more", region.scrollWidth - region.clientWidth - region.scrollLeft > 2);
const watch = new ResizeObserver((entries) => entries.forEach((entry) => fade(entry.target)));
for (const region of regions) {
  region.addEventListener("scroll", () => fade(region), { passive: true });
  watch.observe(region);
}
