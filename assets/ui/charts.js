// The two charts of a run: all scores on one axis, and the expected best of k. They are drawn in CSS pixels, so that
// text keeps its size. Positions on an axis are given as shares from 0 to 1.
{
  const RADII = [
    [24, 6.5],
    [48, 5.5],
    [96, 4.5],
    [160, 3.5],
    [Infinity, 2.8],
  ];
  const STRIP = { side: 12, top: 24, swarm: 62, foot: 22 };

  // Positions of the dots (a beeswarm): each above its score and as near to the axis as its neighbours allow. Piles that
  // are too high are compressed.
  const beeswarm = (xs, n, height) => {
    const radius = RADII.find(([most]) => n <= most)[1],
      apart = (2 * radius + 0.5) ** 2;
    const placed = [];
    for (const x of xs) {
      const near = placed.filter((p) => Math.abs(p.x - x) < 2 * radius + 1);
      let y = radius + 2;
      while (near.some((p) => (p.x - x) ** 2 + (p.y - y) ** 2 < apart)) y += 0.5;
      placed.push({ x, y });
    }
    for (const pile of piles(placed, 2 * radius)) {
      const top = Math.max(...pile.map((p) => p.y)),
        press = Math.min(1, (height - 2 * radius) / (top - radius));
      for (const p of pile) p.y = radius + (p.y - radius) * press;
    }
    return { radius, placed };
  };

  // Groups of dots that (nearly) touch, left to right.
  const piles = (placed, gap) => {
    const all = [];
    for (const p of [...placed].sort((a, b) => a.x - b.x)) {
      const last = all.at(-1);
      if (last && p.x - last.at(-1).x < gap) last.push(p);
      else all.push([p]);
    }
    return all;
  };

  const axis = (ticks, x, y) =>
    bon.svg(
      "g",
      { class: "axis" },
      bon.svg("line", { x1: x(0), x2: x(1), y1: y, y2: y }),
      ...ticks.flatMap(([share, label]) => [
        bon.svg("line", { x1: x(share), x2: x(share), y1: y, y2: y + 4 }),
        bon.svg(
          "text",
          { x: x(share), y: y + 18, "text-anchor": share < 0.02 ? "start" : share > 0.98 ? "end" : "middle" },
          label,
        ),
      ]),
    );

  // A bracket from the mean of one sample to the best score, labelled where there is room.
  const bracket = (view, x, width) => {
    const from = x(view.mean.share),
      to = x(view.rows[view.winner.index].share),
      y = 14;
    const label = bon.say("chart.one", { score: view.mean.score }),
      room = label.length * 6.3 + 8;
    const left = from - STRIP.side > room;
    const parts = [
      bon.svg("line", { class: "mean", x1: from, x2: from, y1: y, y2: STRIP.top + STRIP.swarm }),
      bon.svg("path", { class: "lift", d: `M${from} ${y}H${to}M${to} ${y - 4}V${y + 4}` }),
    ];
    if (left || width - from > room)
      parts.push(
        bon.svg(
          "text",
          {
            class: "mean",
            x: left ? from - 6 : from + 6,
            y: left ? y + 4 : y + 18,
            "text-anchor": left ? "end" : "start",
          },
          label,
        ),
      );
    if (to - from > 56)
      parts.push(
        bon.svg("text", { class: "lift", x: (from + to) / 2, y: y - 4, "text-anchor": "middle" }, view.winner.lift),
      );
    return bon.svg("g", { class: "bracket" }, ...parts);
  };

  // Every candidate's score on one axis. Dots are reused between drawings, so that they move.
  bon.strip = (figure, tooltip, light) => {
    const height = STRIP.top + STRIP.swarm + STRIP.foot;
    const svg = bon.svg("svg", { role: "img", height });
    const back = bon.svg("g"),
      dots = bon.svg("g"),
      front = bon.svg("g");
    svg.append(back, dots, front);
    figure.append(svg);
    const circles = new Map();
    let last = null;

    const circleOf = (index) => {
      if (!circles.has(index)) circles.set(index, bon.svg("circle", { "data-index": index }));
      return circles.get(index);
    };

    const draw = (view) => {
      last = view;
      const width = figure.clientWidth;
      if (!view.axis || !width) return;
      const x = (share) => STRIP.side + share * (width - 2 * STRIP.side);
      // The best dot is on the axis; the others keep the order in which they were scored, and so their places.
      const indices = new Set([view.winner?.index, ...circles.keys(), ...view.rows.keys()]);
      const scored = [...indices].filter((index) => view.rows[index]?.score != null && view.rows[index].state !== "rejected");
      for (const [index, dot] of circles) if (!scored.includes(index)) (dot.remove(), circles.delete(index));
      const { radius, placed } = beeswarm(
        scored.map((index) => x(view.rows[index].share)),
        view.n,
        STRIP.swarm,
      );
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      svg.setAttribute("width", width);
      svg.setAttribute("aria-label", description(view, scored));
      back.replaceChildren(
        axis(view.axis.ticks, x, STRIP.top + STRIP.swarm),
        ...(view.mean && view.winner && view.n > 1 ? [bracket(view, x, width)] : []),
      );
      scored.forEach((index, i) => {
        const best = view.winner?.index === index,
          dot = circleOf(index);
        bon.set(dot, "class", best ? "dot best" : "dot");
        bon.set(dot, "r", best ? radius + 2 : radius);
        dot.style.transform = `translate(${placed[i].x}px, ${STRIP.top + STRIP.swarm - placed[i].y}px)`;
        // Only a dot of another layer: appending one again would restart its animation.
        const layer = best ? front : dots;
        if (dot.parentNode !== layer) layer.append(dot);
      });
    };

    // The chart in words, for screen readers.
    const description = (view, scored) =>
      scored.length
        ? bon.say(view.mean ? "chart.spoken.mean" : "chart.spoken", {
            n: scored.length,
            unit: bon.translate(view.unit),
            best: view.winner.score,
            mean: view.mean?.score,
          })
        : bon.say("chart.none");

    svg.addEventListener("pointerover", (event) => {
      const index = event.target.dataset?.index;
      if (index === undefined || !last) return;
      const row = last.rows[index],
        text = row.text.trim();
      tooltip.show(event.target, `${row.score}  ${text.length > 140 ? `${text.slice(0, 140)}…` : text}`);
      light(Number(index), true);
    });
    svg.addEventListener("pointerout", (event) => {
      if (event.target.dataset?.index === undefined) return;
      tooltip.hide();
      light(Number(event.target.dataset.index), false);
    });
    new ResizeObserver(() => last && draw(last)).observe(figure);
    return { draw, light: (index, on) => circles.get(index)?.classList.toggle("lit", on) };
  };

  const CURVE = { left: 40, right: 26, top: 22, foot: 26 };

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

  // The expected best of k, for k = 1 to N.
  bon.curve = (figure, tooltip, height = 168) => {
    const svg = bon.svg("svg", { role: "img", height });
    figure.append(svg);
    let last = null;

    const draw = (curve) => {
      last = curve;
      const width = figure.clientWidth;
      if (!curve || !width) return;
      const n = curve.points.at(-1)[0],
        bottom = height - CURVE.foot;
      const x = (k) => CURVE.left + (n > 1 ? Math.log2(k) / Math.log2(n) : 0.5) * (width - CURVE.left - CURVE.right);
      const y = (share) => bottom - share * (bottom - CURVE.top);
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
            bon.svg("line", { x1: CURVE.left, x2: width - CURVE.right, y1: y(share), y2: y(share) }),
            bon.svg("text", { x: CURVE.left - 8, y: y(share) + 4, "text-anchor": "end" }, label),
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
      const nearest = curve.points.reduce((a, b) => (Math.abs(x(a[0]) - pointerX) <= Math.abs(x(b[0]) - pointerX) ? a : b));
      const dot = svg.querySelector(".read");
      dot.classList.add("on");
      dot.setAttribute("cx", x(nearest[0]));
      dot.setAttribute("cy", y(nearest[1]));
      tooltip.show(dot, bon.say(nearest[0] === 1 ? "curve.one" : `curve.${last.word}`, { of: nearest[0], score: nearest[2] }));
    };
    svg.addEventListener("pointerleave", () => {
      tooltip.hide();
      svg.querySelector(".read")?.classList.remove("on");
    });
    new ResizeObserver(() => last && draw(last)).observe(figure);
    return { draw };
  };
}
