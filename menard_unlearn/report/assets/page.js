(() => {
  "use strict";
  const { figures, palettes } = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const paint = (value, palette) => {
    if (typeof value === "string") return palette[value] ?? value;
    if (Array.isArray(value)) return value.map((item) => paint(item, palette));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, paint(item, palette)]));
  };

  const layout = (own, palette) => {
    const axis = {
      gridcolor: palette["@grid"], linecolor: palette["@muted"], tickcolor: palette["@muted"],
      tickfont: { color: palette["@muted"], size: 11 }, zeroline: false, showline: true, ticks: "outside", ticklen: 4,
      automargin: true,
    };
    const named = (text) => ({ text, font: { size: 12, color: palette["@muted"] }, standoff: 8 });
    const merged = (mine) => ({ ...axis, ...mine, title: named(mine.title.text) });
    return {
      ...own, xaxis: merged(own.xaxis), yaxis: merged(own.yaxis), autosize: true,
      margin: { l: 50, r: 10, t: 10, b: 40 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: 'system-ui, "Segoe UI", Roboto, sans-serif', size: 12, color: palette["@ink"] },
      hoverlabel: { bgcolor: palette["@paper"], bordercolor: palette["@grid"], font: { color: palette["@ink"] }, namelength: -1 },
    };
  };

  const draw = () => {
    const palette = palettes[dark.matches ? "dark" : "light"];
    for (const { id, data, layout: own } of figures) {
      const place = document.getElementById(id);
      Plotly.react(place, paint(data, palette), layout(paint(own, palette), palette), { displayModeBar: false, responsive: true })
        .catch((problem) => fail(problem));
    }
  };

  const fail = (problem) => {
    document.documentElement.dataset.failed = String(problem?.message ?? problem);
    document.getElementById("failed").hidden = false;
  };
  addEventListener("error", (event) => fail(event.error ?? event.message));
  addEventListener("unhandledrejection", (event) => fail(event.reason));
  dark.addEventListener("change", draw);
  draw();
})();
