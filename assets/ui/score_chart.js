// The chart of all scores of a run on one axis. It is drawn in CSS pixels, so that text keeps its size.
// Positions on an axis are shares from 0 to 1.
{
  // The radius of a dot, by the number of candidates up to which it holds.
  const RADII = [
    [24, 6.5],
    [48, 5.5],
    [96, 4.5],
    [160, 3.5],
    [Infinity, 2.8],
  ];
  const SIZE = { side: 12, top: 24, swarm: 62, foot: 22 };

  // Positions of the dots (a beeswarm): each above its score and as near to the axis as its neighbours allow. Piles
  // that are too high are compressed.
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
      ...bon.labelsWithRoom(ticks, x).map(({ x: at, label, anchor }) =>
        bon.svg("text", { x: at, y: y + 18, "text-anchor": anchor }, label),
      ),
      ...ticks.map(([share]) => bon.svg("line", { x1: x(share), x2: x(share), y1: y, y2: y + 4 })),
    );

  // A line from the mean of one sample to the winner's score; above it, what both are.
  const bracket = (view, x, width) => {
    const from = x(view.mean.share),
      to = x(view.rows[view.winner.index].share),
      y = 17;
    const mean = bon.say("chart.one", { score: view.mean.score }),
      length = bon.labelWidth(`${mean}  ${view.winner.lift}`),
      isLeft = from < width / 2;
    return bon.svg(
      "g",
      { class: "bracket" },
      bon.svg("line", { class: "mean", x1: from, x2: from, y1: y, y2: SIZE.top + SIZE.swarm }),
      bon.svg("path", { class: "lift", d: `M${from} ${y}H${to}M${to} ${y - 4}V${y + 4}` }),
      bon.svg(
        "text",
        {
          class: "mean",
          x: isLeft ? Math.min(from, width - length) : Math.max(from, length),
          y: 9,
          "text-anchor": isLeft ? "start" : "end",
        },
        mean,
        bon.svg("tspan", { class: "lift", dx: 8 }, view.winner.lift),
      ),
    );
  };

  // highlight: highlights a candidate's row. Dots are reused between drawings, so that they move.
  bon.scoreChart = (figure, tooltip, highlight) => {
    const height = SIZE.top + SIZE.swarm + SIZE.foot;
    const svg = bon.svg("svg", { role: "img", height });
    const axisLayer = bon.svg("g"),
      dotLayer = bon.svg("g"),
      bestLayer = bon.svg("g");
    svg.append(axisLayer, dotLayer, bestLayer);
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
      const x = (share) => SIZE.side + share * (width - 2 * SIZE.side);
      // The best dot is on the axis; the others keep the order in which they were scored, and so their places.
      const indices = new Set([view.winner?.index, ...circles.keys(), ...view.rows.keys()]);
      const scored = [...indices].filter(
        (index) => view.rows[index]?.score != null && view.rows[index].state !== "rejected",
      );
      for (const [index, dot] of circles) if (!scored.includes(index)) (dot.remove(), circles.delete(index));
      const { radius, placed } = beeswarm(
        scored.map((index) => x(view.rows[index].share)),
        view.n,
        SIZE.swarm,
      );
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      svg.setAttribute("width", width);
      svg.setAttribute("aria-label", description(view, scored));
      axisLayer.replaceChildren(
        axis(view.axis.ticks, x, SIZE.top + SIZE.swarm),
        ...(view.mean && view.winner && view.n > 1 ? [bracket(view, x, width)] : []),
      );
      scored.forEach((index, i) => {
        const best = view.winner?.index === index,
          dot = circleOf(index);
        bon.setAttribute(dot, "class", best ? "dot best" : "dot");
        bon.setAttribute(dot, "r", best ? radius + 2 : radius);
        dot.style.transform = `translate(${placed[i].x}px, ${SIZE.top + SIZE.swarm - placed[i].y}px)`;
        // Only a dot of another layer: appending one again would restart its animation.
        const layer = best ? bestLayer : dotLayer;
        if (dot.parentNode !== layer) layer.append(dot);
      });
    };

    // A description of the chart for screen readers.
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
      const row = last.rows[index];
      const text = last.messages ? bon.withoutMarks(row.text) : row.text.trim();
      tooltip.show(event.target, `${row.score}  ${bon.truncate(text, 140)}`);
      highlight(Number(index), true);
    });
    svg.addEventListener("pointerout", (event) => {
      if (event.target.dataset?.index === undefined) return;
      tooltip.hide();
      highlight(Number(event.target.dataset.index), false);
    });
    new ResizeObserver(() => last && draw(last)).observe(figure);
    return { draw, highlight: (index, on) => circles.get(index)?.classList.toggle("lit", on) };
  };
}
