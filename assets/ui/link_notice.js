// The notice above a form that a share link has filled in. The run starts only when the visitor presses Generate.
{
  bon.linkNotice = (element, props, watch) => {
    const hide = () => (node.hidden = true);
    const close = bon.button(bon.say("dismiss"), hide, { class: "copy" });
    const list = bon.el("ul");
    const title = bon.el("b"),
      warning = bon.el("p", {}, bon.say("link.ignored"));
    const node = bon.el("div", { class: "linked", role: "status" }, bon.el("p", {}, title), warning, list, close);
    element.append(node);
    document.addEventListener("click", (event) => event.target.closest?.("#generate") && hide());
    const draw = () => {
      const { defaults, presets, switches, lines, slider_max, linked, ignored } = props.value;
      // What a link that leaves a field out means, by the fields' names in their order; what the switches stand for.
      bon.defaults = defaults;
      bon.presets = presets; // the values of presets by their names, which links leave out too
      bon.switches = switches;
      bon.lines = lines; // the names of the fields of several texts, one on each line
      bon.sliderMax = slider_max;
      node.hidden = !linked;
      bon.setText(title, bon.say("link.filled"));
      warning.hidden = list.hidden = !ignored.length;
      bon.setItems(list, ignored);
    };
    watch("value", draw);
    draw();
  };
}
