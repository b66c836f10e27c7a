// The header's chips: model, scorer and device. props.value is a list of texts.
{
  bon.chips = (element, props, watch) => {
    const list = bon.el("ul", { class: "chips", "aria-label": bon.say("chips") });
    element.append(list);
    const draw = () => list.replaceChildren(...(props.value || []).map((text) => bon.el("li", {}, bon.translate(text))));
    watch("value", draw);
    draw();
  };
}
