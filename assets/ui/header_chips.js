// The header's chips: model, scorer and device. props.value is a list of texts.
{
  bon.headerChips = (element, props, watch) => {
    const list = bon.el("ul", { class: "chips", "aria-label": bon.say("chips") });
    element.append(list);
    const draw = () => bon.setItems(list, props.value);
    watch("value", draw);
    draw();
  };
}
