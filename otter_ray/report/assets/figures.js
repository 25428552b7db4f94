"use strict";
// Draws each figure in the page's colours, and again when these change.
const places = [...document.querySelectorAll(".figure")];
const figures = places.map((place) => JSON.parse(place.parentElement.nextElementSibling.textContent));
const isTouched = matchMedia("(pointer: coarse)").matches || innerWidth < 600;

function look() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  const line = of("--line");
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, ticklabelstandoff: 5, automargin: true };
  return {
    font: { color: of("--text"), family: of("--font"), size: 12 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    colorway: [of("--base"), of("--winner"), "#0d9488", "#a855f7", "#ca8a04", "#db2777", "#65a30d", "#64748b"],
    hoverlabel: { bgcolor: of("--card"), bordercolor: of("--line"), font: { color: of("--text") } },
    xaxis: axis,
    yaxis: axis,
    modebar: { bgcolor: of("--card"), color: of("--soft"), activecolor: of("--text") },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    margin: { l: 50, r: 16, t: 24, b: 44 },
    // A finger that scrolls the page must not zoom.
    dragmode: isTouched ? false : "zoom",
  };
}

function draw() {
  const layout = look();
  // Of plotly's own buttons one would send a figure away.
  const buttons = [["toImage", "zoom2d", "pan2d", "resetScale2d"]];
  const config = { responsive: true, displaylogo: false, displayModeBar: isTouched ? false : "hover", modeBarButtons: buttons };
  places.forEach((place, index) => {
    const figure = figures[index];
    Plotly.react(place, figure.data, { ...figure.layout, template: { layout } }, config);
  });
}

if (places.length) {
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

// Says where a box that scrolls goes on: the style sheet lets it fade out there.
function fade(box) {
  const more = {
    left: box.scrollLeft > 1,
    right: box.scrollLeft + box.clientWidth < box.scrollWidth - 1,
    below: box.scrollTop + box.clientHeight < box.scrollHeight - 1,
  };
  Object.entries(more).forEach(([side, is]) => box.classList.toggle(`more-${side}`, is));
}

const resized = new ResizeObserver((entries) => entries.forEach((entry) => fade(entry.target.closest(".wide, .row"))));
document.querySelectorAll(".wide, .row").forEach((box) => {
  box.addEventListener("scroll", () => fade(box), { passive: true });
  [box, ...box.children].forEach((part) => resized.observe(part));
});
