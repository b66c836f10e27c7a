"""What a model can take, as its config and its table of tokens say: how many positions, how many token ids."""

from typing import Any

#: What configs call the most tokens that their model takes; -1 stands for no limit.
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions")


def stated_positions(config: Any) -> int | None:
    """The most tokens of a text by the config's own words; None where it names no positive whole number."""
    text = config.get_text_config()
    return next((n for name in POSITIONS if isinstance(n := getattr(text, name, None), int) and n > 0), None)


def vocabulary(model: Any) -> int | None:
    """How many token ids the model has an embedding for; None where it does not say."""
    try:
        return getattr(model.get_input_embeddings(), "num_embeddings", None)
    except (AttributeError, NotImplementedError):
        return None
