// The chart of the expected best of k, for k = 1 to N. It is drawn in CSS pixels, so that text keeps its size.
// Positions on an axis are shares from 0 to 1.
{
  const SIZE = { left: 40, right: 26, top: 22, foot: 26 };

  // The k labelled under the curve: powers of two, and N.
  const labelledK = (n) => {
    const powers = [];
    for (let k = 1; k <= n; k *= 2) powers.push(k);
    if (powers.at(-1) !== n) {
      if (powers.length > 1 && n / powers.at(-1) < 1.3) powers.pop();
      powers.push(n);
    }
    return powers;
  };

  bon.expectedBestChart = (figure, tooltip, height = 168) => {
    const svg = bon.svg("svg", { role: "img", height });
    figure.append(svg);
    let last = null;

    const draw = (curve) => {
      last = curve;
      const width = figure.clientWidth;
      if (!curve || !width) return;
      const n = curve.points.at(-1)[0],
        bottom = height - SIZE.foot;
      const x = (k) => SIZE.left + (n > 1 ? Math.log2(k) / Math.log2(n) : 0.5) * (width - SIZE.left - SIZE.right);
      const y = (share) => bottom - share * (bottom - SIZE.top);
      const line = curve.points.map(([k, share]) => `${x(k).toFixed(1)} ${y(share).toFixed(1)}`).join("L");
      const marks = labelledK(n)
        .map((k) => curve.points.find((point) => point[0] === k))
        .filter(Boolean);
      const withValue = new Set([1, n, n >= 8 ? 4 : 0]);
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      svg.setAttribute("width", width);
      svg.setAttribute(
        "aria-label",
        bon.say("curve.spoken", { list: marks.map(([k, , score]) => `${k}: ${score}`).join(", ") }),
      );
      svg.replaceChildren(
        bon.svg(
          "g",
          { class: "axis" },
          ...curve.ticks.flatMap(([share, label]) => [
            bon.svg("line", { x1: SIZE.left, x2: width - SIZE.right, y1: y(share), y2: y(share) }),
            bon.svg("text", { x: SIZE.left - 8, y: y(share) + 4, "text-anchor": "end" }, label),
          ]),
          ...labelledK(n).map((k) => bon.svg("text", { x: x(k), y: bottom + 18, "text-anchor": "middle" }, String(k))),
        ),
        bon.svg("path", { class: "area", d: `M${line}L${x(n)} ${bottom}L${x(1)} ${bottom}Z` }),
        bon.svg("path", { class: "line", d: `M${line}` }),
        ...marks.map(([k, share]) =>
          bon.svg("circle", { class: k === n ? "mark best" : "mark", cx: x(k), cy: y(share), r: k === n ? 5.5 : 3.5 }),
        ),
        ...marks
          .filter(([k]) => withValue.has(k))
          .map(([k, share, score]) =>
            bon.svg(
              "text",
              {
                class: "value",
                x: x(k) + (k === 1 ? 2 : 0),
                y: y(share) + (share > 0.82 ? 20 : -10),
                "text-anchor": k === 1 && n > 1 ? "start" : k === n ? "end" : "middle",
              },
              score,
            ),
          ),
        bon.svg("circle", { class: "read", r: 5 }),
      );
      svg.onpointermove = (event) => showNearest(event, x, y, curve);
    };

    const showNearest = (event, x, y, curve) => {
      const pointerX = event.clientX - svg.getBoundingClientRect().left;
      const nearest = curve.points.reduce((a, b) =>
        Math.abs(x(a[0]) - pointerX) <= Math.abs(x(b[0]) - pointerX) ? a : b,
      );
      const dot = svg.querySelector(".read");
      dot.classList.add("on");
      dot.setAttribute("cx", x(nearest[0]));
      dot.setAttribute("cy", y(nearest[1]));
      tooltip.show(
        dot,
        bon.say(nearest[0] === 1 ? "curve.one" : `curve.${last.word}`, { of: nearest[0], score: nearest[2] }),
      );
    };
    svg.addEventListener("pointerleave", () => {
      tooltip.hide();
      svg.querySelector(".read")?.classList.remove("on");
    });
    new ResizeObserver(() => last && draw(last)).observe(figure);
    return { draw };
  };
}
