// The header's chips: props.value is a list of texts.
{
  bon.chips = (element, props, watch) => {
    const list = bon.el("ul", { class: "chips", "aria-label": "What runs here" });
    element.append(list);
    const draw = () => list.replaceChildren(...(props.value || []).map((text) => bon.el("li", {}, text)));
    watch("value", draw);
    draw();
  };
}
