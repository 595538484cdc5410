"use strict";
(() => {
  const options = { responsive: true, displaylogo: false, showSendToCloud: false, showEditInChartStudio: false,
    modeBarButtons: [["toImage", "resetScale2d"]] };
  const plots = [...document.querySelectorAll(".plot")];
  for (const plot of plots) {
    const spec = JSON.parse(document.querySelector(`script[data-plot="${plot.id}"]`).textContent);
    Plotly.newPlot(plot, spec.data, spec.layout, options);
  }
  // A sheet of A4 between its margins, in CSS pixels; figures are drawn anew, because theirs do not scale.
  const PRINTED = 680;
  const folded = [];
  window.addEventListener("beforeprint", () => {
    for (const entry of document.querySelectorAll("details:not([open])")) { entry.open = true; folded.push(entry); }
    for (const plot of plots) Plotly.relayout(plot, { width: PRINTED, autosize: false });
  });
  window.addEventListener("afterprint", () => {
    for (const entry of folded.splice(0)) entry.open = false;
    for (const plot of plots) Plotly.relayout(plot, { width: null, autosize: true });
  });
})();
