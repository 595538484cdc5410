"use strict";
(async () => {
  const options = { responsive: true, displaylogo: false, showSendToCloud: false, showEditInChartStudio: false,
    modeBarButtons: [["resetScale2d"]] };
  const plots = [...document.querySelectorAll(".plot")];
  const specs = new Map(plots.map((plot) =>
    [plot.id, document.querySelector(`script[data-plot="${plot.id}"]`).textContent]));

  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent.trim()), (c) => c.charCodeAt(0));
  const library = document.createElement("script");
  library.textContent = await new Response(
    new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  document.head.append(library);

  // Colours that a dark ground would swallow, as `theme.py` names them, and what stands for them there.
  const DARK = { "#1f2328": "#e6edf3", "#57606a": "#9aa4ae", "#e3e7eb": "#30363d", "#000000": "#f0f6fc",
    "#fff": "#0d1117", "#d0d7de": "#3d444d", "#0072b2": "#4aa8e0", "#eef1f4": "#21262d",
    "#cfe3f1": "#1f4a66", "#f8e3b8": "#5c4813" };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const PHONE = 600;

  function figure(plot, isDark) {
    const text = specs.get(plot.id);
    const spec = JSON.parse(isDark ? text.replace(/"(#[0-9a-f]{3,6})"/g, (all, c) => `"${DARK[c] ?? c}"`) : text);
    spec.layout.modebar = { bgcolor: "rgba(0,0,0,0)" };
    if (plot.clientWidth < PHONE) narrow(spec);
    return spec;
  }

  // On a phone the legend and the scale go below the figure, and panels stand one below the other.
  function narrow(spec) {
    const { layout } = spec;
    layout.margin = { ...layout.margin, l: 48, r: 10 };
    layout.font = { ...layout.font, size: 11 };
    const bars = spec.data.map((trace) => trace.colorbar ?? trace.marker?.colorbar).filter(Boolean);
    const named = spec.data.filter((trace) => trace.name && trace.showlegend !== false).length;
    const below = { yref: "container", y: 0, yanchor: "bottom" };
    for (const bar of bars) Object.assign(bar, { ...below, orientation: "h", title: { ...bar.title, side: "bottom" } });
    if (named && !bars.length) layout.legend = { ...layout.legend, ...below };
    const more = bars.length ? 70 : 22 * named;
    layout.margin.b += more;
    layout.height += more;
    const columns = Object.keys(layout).filter((name) => /^xaxis\d*$/.test(name));
    if (columns.length < 2) return;
    const each = 1 / columns.length, room = 0.1 * each;
    layout.height = 250 * columns.length;
    columns.forEach((name, index) => {
      const top = 1 - index * each, y = layout[name.replace("x", "y")];
      layout[name].domain = [0, 1];
      y.domain = [top - each + 2 * room, top - room];
      if (layout.annotations?.[index]) Object.assign(layout.annotations[index], { x: 0.5, y: top - room });
    });
  }

  function draw(isDark) {
    for (const plot of plots) {
      const spec = figure(plot, isDark);
      plot.style.height = `${spec.layout.height}px`;
      Plotly.react(plot, spec.data, spec.layout, options);
    }
  }

  const save = (name, blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  // A line for every point of every trace, of a heat map for every cell.
  function table(spec) {
    const lines = [["series", "x", "y", "value"]];
    for (const trace of spec.data) {
      if (trace.meta === "unseen") continue;
      if (trace.z) trace.z.forEach((row, i) => row.forEach((z, j) =>
        z === null || lines.push([trace.name ?? "", trace.x[j], trace.y[i], z])));
      const texts = Array.isArray(trace.text) && !(trace.type === "bar" && trace.name) ? trace.text : null;
      if (!trace.z) (trace.x ?? []).forEach((x, i) => x === null || lines.push([
        texts ? texts[i].replaceAll("<br>", ", ") : trace.name ?? "", x, trace.y[i], ""]));
    }
    return lines.map((line) => line.map((cell) => /[",\n]/.test(`${cell}`) ? `"${`${cell}`.replaceAll('"', '""')}"` : cell)
      .join(",")).join("\n") + "\n";
  }

  document.addEventListener("click", async ({ target }) => {
    const id = target.dataset?.csv ?? target.dataset?.svg;
    if (!id) return;
    const spec = JSON.parse(specs.get(id));
    if (target.dataset.csv) return save(`${id}.csv`, new Blob([table(spec)], { type: "text/csv" }));
    const plot = document.getElementById(id);
    const address = await Plotly.toImage(plot, { format: "svg", width: plot.clientWidth, height: plot.clientHeight });
    save(`${id}.svg`, new Blob([decodeURIComponent(address.slice(address.indexOf(",") + 1))], { type: "image/svg+xml" }));
  });

  draw(dark.matches);
  dark.addEventListener("change", () => draw(dark.matches));

  // A sheet of A4 between its margins, in CSS pixels; figures are drawn anew, because theirs do not scale. What is folded
  // stays so: on paper the figures are enough.
  const PRINTED = 710;
  window.addEventListener("beforeprint", () => {
    draw(false);
    for (const plot of plots) {
      const height = Math.max(120, 0.45 * plot.layout.height);
      const axes = Object.keys(plot.layout).filter((name) => /^[xy]axis\d*$/.test(name));
      const titles = Object.fromEntries(axes.map((name) => [`${name}.title.font.size`, 9]));
      plot.style.height = `${height}px`;
      Plotly.relayout(plot,
        { width: PRINTED, height, autosize: false, "font.size": 9, "margin.t": 26, "margin.b": 38, ...titles });
    }
  });
  window.addEventListener("afterprint", () => {
    for (const plot of plots) Plotly.relayout(plot, { width: null, autosize: true });
    draw(dark.matches);
  });
})();
