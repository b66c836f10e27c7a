// How a record's score, unit and prompt are shown, as bon/report/numbers.py shows them.
{
  bon.minusSign = (text) => text.replace("-", "−");
  bon.formatScore = (score) => {
    if (score >= 0.9995 && score < 1) return "> 0.999";
    return score > 0 && score < 0.0005 ? "< 0.001" : bon.minusSign(score.toFixed(3));
  };
  bon.formatUnit = ({ unit, target }) => {
    const unitName = bon.sayOr(`unit.${unit}`, unit),
      label = target === target?.toUpperCase() ? target?.toLowerCase() : target;
    return target ? bon.say("unit.of", { unit: unitName, label: bon.sayOr(`label.${label}`, label) }) : unitName;
  };

  // A run's prompt; in a chat the last message, on a separate line before its answer.
  bon.promptNode = ({ prompt, messages }) => bon.el("span", { class: messages ? "prompt message" : "prompt" }, prompt);
}
