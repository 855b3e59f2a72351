// Figures: plotly is unpacked once, and each figure drawn when it comes near the window.
(() => {
  "use strict";
  const { figures, palettes } = page.data;
  const byId = new Map(figures.map((figure) => [figure.id, figure]));
  const drawn = new Set();

  const unpack = async () => {
    const letters = document.getElementById("plotly").textContent;
    const bytes = Uint8Array.from(atob(letters), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  };

  const paint = (value, palette) => {
    if (typeof value === "string") return palette[value] ?? value;
    if (Array.isArray(value)) return value.map((item) => paint(item, palette));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, paint(item, palette)]));
  };

  const family = 'system-ui, "Segoe UI", Roboto, sans-serif';
  const layout = (own, palette) => {
    const axis = {
      gridcolor: palette["@grid"], linecolor: palette["@grid"], tickcolor: palette["@grid"],
      tickfont: { color: palette["@muted"], size: 11 }, zeroline: false, showline: true, ticks: "outside", ticklen: 4,
      automargin: true,
    };
    const named = (text) => ({ text, font: { size: 12, color: palette["@muted"] }, standoff: 8 });
    const merged = (mine) => ({ ...axis, ...mine, title: named(mine.title.text) });
    return {
      ...own, xaxis: merged(own.xaxis), yaxis: merged(own.yaxis), autosize: true,
      margin: { l: 44, r: 10, t: 8, b: own.xaxis.title.text ? 40 : 24 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family, size: 12, color: palette["@ink"] },
      hoverlabel: { bgcolor: palette["@paper"], bordercolor: palette["@grid"], font: { family, size: 12, color: palette["@ink"] }, namelength: -1 },
    };
  };

  // The front of what is shown: sorted by x, each that is higher than all before it.
  const front = (traces) => {
    const marks = traces.filter(({ meta, x }) => Number.isInteger(meta) && x.length === 1 && !page.hidden.has(meta));
    const points = marks.map(({ x, y }) => [x[0], y[0]]).sort((a, b) => a[0] - b[0] || b[1] - a[1]);
    const best = points.filter(([, y], place) => points.slice(0, place).every(([, other]) => other < y));
    return { x: best.map(([x]) => x), y: best.map(([, y]) => y) };
  };

  const draw = (id) => {
    const palette = palettes[page.isDark() ? "dark" : "light"];
    const { data, layout: own } = byId.get(id);
    const place = document.getElementById(id);
    if (!place.offsetWidth) return drawn.delete(id);  // hidden: drawn when it is shown
    drawn.add(id);
    const traces = paint(data, palette).map((trace) => ({
      ...trace, visible: !page.hidden.has(trace.meta), ...(trace.name === "front" ? front(data) : {}),
    }));
    Plotly.react(place, traces, layout(paint(own, palette), palette), { displayModeBar: false, responsive: true })
      .catch(page.fail);
  };

  const places = () => [...byId.keys()].map((id) => document.getElementById(id));
  const watch = () => page.whenSeen(places().filter((place) => !drawn.has(place.id)), (place) => draw(place.id));
  const ready = unpack();
  ready.then(watch, page.fail);
  page.onChange(() => ready.then(() => { [...drawn].forEach(draw); watch(); }));

  // On paper all figures are needed, in the light colours, and as wide as the sheet lets them be.
  const print = (now) => {
    page.print(now);
    document.body.style.width = now ? "1030px" : "";
    if (window.Plotly) [...byId.keys()].forEach(draw);
  };
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
})();
