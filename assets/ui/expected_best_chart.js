// The chart of the expected best of k, for k = 1 to N. It is drawn in CSS pixels, so that text keeps its size.
// Positions on an axis are shares from 0 to 1.
{
  const SIZE = { top: 22, foot: 26 };
  // Room for the first value between a curve that begins at the axis and the labels of k.
  const VALUE_HEIGHT = 16;

  // The k labelled under the curve: powers of two, as many as have room, and N. octave: pixels between k and 2k.
  const labelledK = (n, octave) => {
    const powers = [],
      room = bon.labelWidth(String(n)) + 4,
      step = 2 ** Math.max(1, Math.ceil(room / octave));
    for (let k = 1; k <= n; k *= step) powers.push(k);
    if (powers.at(-1) !== n) {
      if (powers.length > 1 && Math.log2(n / powers.at(-1)) * octave < room) powers.pop();
      powers.push(n);
    }
    return powers;
  };

  // Where the value at a point of a curve from k = 1 to N stands: where neither the curve, which does not turn, nor an
  // axis is. x, y: the point's.
  const valuePlace = (k, n, x, y, rises) => {
    if (k === n) return { x: x + 10, y: y + 4, "text-anchor": "start" };
    if (k === 1 && rises) return { x: x + 5, y: y + 17, "text-anchor": "start" };
    return { x: rises ? x - 5 : x + 5, y: y - 8, "text-anchor": rises ? "end" : "start" };
  };

  // isSmall: a chart that shows the last value alone.
  bon.expectedBestChart = (figure, tooltip, height = 168, isSmall = false) => {
    const svg = bon.svg("svg", { role: "img", height });
    figure.append(svg);
    let last = null;

    const draw = (curve) => {
      last = curve;
      const width = figure.clientWidth;
      if (!curve || !width) return;
      const n = curve.points.at(-1)[0],
        rises = curve.points.at(-1)[1] >= curve.points[0][1],
        foot = SIZE.foot + (rises && !isSmall && n > 1 && curve.points[0][1] < 0.2 ? VALUE_HEIGHT : 0),
        bottom = height - foot,
        left = 12 + bon.widestLabel(curve.ticks.map(([, label]) => label)),
        right = 14 + bon.labelWidth(curve.points.at(-1)[2]), // the last value stands there
        octave = (width - left - right) / (n > 1 ? Math.log2(n) : 1);
      const x = (k) => (n > 1 ? left + Math.log2(k) * octave : left + 0.5 * octave);
      const y = (share) => bottom - share * (bottom - SIZE.top);
      const line = curve.points.map(([k, share]) => `${x(k).toFixed(1)} ${y(share).toFixed(1)}`).join("L");
      const labels = labelledK(n, octave);
      const marks = labels.map((k) => curve.points.find((point) => point[0] === k)).filter(Boolean);
      const withValue = new Set(isSmall ? [n] : [1, n, n >= 8 && octave >= 28 ? 4 : 0]);
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
            bon.svg("line", { x1: left, x2: width - right, y1: y(share), y2: y(share) }),
            bon.svg("text", { x: left - 8, y: y(share) + 4, "text-anchor": "end" }, label),
          ]),
          ...labels.map((k) => bon.svg("text", { x: x(k), y: height - 8, "text-anchor": "middle" }, String(k))),
        ),
        bon.svg("path", { class: "area", d: `M${line}L${x(n)} ${bottom}L${x(1)} ${bottom}Z` }),
        bon.svg("path", { class: "line", d: `M${line}` }),
        ...marks.map(([k, share]) => {
          const best = k === n && curve.holds_winner;
          return bon.svg("circle", {
            class: best ? "mark best" : "mark",
            cx: x(k),
            cy: y(share),
            r: best ? 5.5 : 3.5,
          });
        }),
        ...marks
          .filter(([k]) => withValue.has(k))
          .map(([k, share, score]) =>
            bon.svg("text", { class: "value", ...valuePlace(k, n, x(k), y(share), rises) }, score),
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
