// Removes the first paint (first_paint.html) when the parts that it stands for are there.
{
  const PARTS = ["#settings-line", ".bon[data-phase]", ".chips li"];

  const removeFirstPaint = () => {
    if (!PARTS.every((selector) => document.querySelector(selector))) return setTimeout(removeFirstPaint, 20);
    document.documentElement.removeAttribute("data-first-paint");
    document.querySelector(".first-paint")?.remove();
  };
  removeFirstPaint();
}
