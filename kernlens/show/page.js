// The switch, the charts, and tables that sort. Without it the page still has every number.
"use strict";
(() => {
  const root = document.documentElement;
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 40rem)");
  const button = document.getElementById("theme");
  const theme = () => root.dataset.theme || (dark.matches ? "dark" : "light");

  // "var(--c1)" becomes the colour of the theme, "var(--c1) 0.2" the same with that opacity.
  const colour = (name, alpha) => {
    const hex = getComputedStyle(root).getPropertyValue(name).trim();
    if (!alpha) return hex;
    const parts = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    return `rgba(${parts.join(",")},${alpha})`;
  };
  const coloured = (value) => {
    if (typeof value === "string") {
      const found = /^var\((--[a-z0-9]+)\)(?: ([0-9.]+))?$/.exec(value);
      return found ? colour(found[1], found[2]) : value;
    }
    if (Array.isArray(value)) return value.map(coloured);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, coloured(v)]));
    }
    return value;
  };

  const draw = (width) => {
    if (typeof Plotly === "undefined") return;
    const axis = {
      gridcolor: colour("--line"), linecolor: colour("--quiet"), zerolinecolor: colour("--line"),
      fixedrange: true, automargin: true, ticks: "outside", tickcolor: colour("--line"),
    };
    const title = (of) => ({ ...(of.title || {}), font: { size: 13 }, standoff: 10 });
    for (const [i, chart] of charts.entries()) {
      const at = document.getElementById(`plot-${i}`);
      const own = coloured(chart.layout);
      const layout = {
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false,
        margin: { l: 8, r: 14, t: 10, b: 8 }, showlegend: false, hovermode: "closest",
        hoverlabel: {
          bgcolor: colour("--card"), bordercolor: colour("--quiet"), align: "left",
          font: { color: colour("--text"), size: 13 },
        },
        ...own,
        font: { family: "system-ui, sans-serif", size: 13, color: colour("--text") },
        xaxis: { ...axis, ...own.xaxis, title: title(own.xaxis) },
        yaxis: { ...axis, ...own.yaxis, title: title(own.yaxis) },
        height: chart.height, ...(width ? { width } : { autosize: true }),
      };
      // A width that is set for print must not stay.
      if (!width) delete layout.width;
      Plotly.react(at, coloured(chart.traces), layout, { displayModeBar: false, responsive: true });
    }
  };
  const show = () => {
    const other = theme() === "dark" ? "light" : "dark";
    button.textContent = other === "dark" ? "Dark colours" : "Light colours";
    draw();
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    show();
  });
  dark.addEventListener("change", show);

  // Paper is white and narrower than most screens.
  let kept;
  addEventListener("beforeprint", () => {
    kept = root.dataset.theme;
    root.dataset.theme = "light";
    draw(680);
  });
  addEventListener("afterprint", () => {
    if (kept === undefined) delete root.dataset.theme;
    else root.dataset.theme = kept;
    draw();
  });

  const number = (text) => {
    const found = /-?[0-9][0-9,]*(\.[0-9]+)?(e[-+]?[0-9]+)?/.exec(text);
    return found ? parseFloat(found[0].replaceAll(",", "")) : NaN;
  };
  const sort = (table, index, order) => {
    const body = table.tBodies[0];
    const isNumber = table.tHead.rows[0].cells[index].classList.contains("right");
    const sign = order === "ascending" ? 1 : -1;
    const value = (row) => row.cells[index].textContent;
    const rows = [...body.rows].sort((a, b) => {
      if (!isNumber) return sign * value(a).localeCompare(value(b));
      const [x, y] = [number(value(a)), number(value(b))];
      // What has no number is last either way.
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
      return sign * (x - y);
    });
    body.append(...rows);
    for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort");
    table.tHead.rows[0].cells[index].setAttribute("aria-sort", order);
  };
  for (const table of document.querySelectorAll("table.sorted")) {
    if (table.tBodies[0].rows.length < 2) continue;
    const heads = [...table.tHead.rows[0].cells];
    const select = document.createElement("select");
    for (const [index, head] of heads.entries()) {
      const name = head.textContent || "name";
      const own = document.createElement("button");
      own.type = "button";
      own.append(...head.childNodes);
      if (!own.textContent) own.setAttribute("aria-label", "Sort by the first column");
      head.append(own);
      const first = head.classList.contains("right") ? "descending" : "ascending";
      own.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        sort(table, index, now === "ascending" ? "descending" : now ? "ascending" : first);
      });
      select.add(new Option(name, index));
    }
    select.add(new Option("as given", ""), 0);
    select.value = "";
    select.addEventListener("change", () => {
      if (select.value === "") return;
      const right = heads[select.value].classList.contains("right");
      sort(table, Number(select.value), right ? "descending" : "ascending");
    });
    const label = document.createElement("label");
    label.className = "order";
    label.append("Sort by ", select);
    if (!table.classList.contains("stacked")) label.hidden = true;
    if (table.caption) table.caption.append(label);
    else table.before(label);
    const most = narrow.matches ? 5 : 10;
    const count = table.tBodies[0].rows.length;
    if (count > most) {
      table.classList.add("short");
      const more = document.createElement("button");
      more.type = "button";
      more.className = "more";
      more.setAttribute("aria-expanded", "false");
      more.textContent = `Show all ${count} rows`;
      more.addEventListener("click", () => {
        const short = table.classList.toggle("short");
        more.setAttribute("aria-expanded", String(!short));
        more.textContent = short ? `Show all ${count} rows` : "Show fewer rows";
      });
      table.after(more);
    }
  }
  show();
})();
