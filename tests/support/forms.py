"""The form of a page that nobody but its owner uses, without a browser."""

from bon.ui.generate import form_values, share_links
from bon.ui.generate.form_values import PAGE_SETTINGS, first_value
from bon.ui.hosting.deployment import Deployment

PRIVATE = Deployment()
#: The values of the form when the page opens, in order.
FIRST_VALUES = {"prompt": "This movie", **{name: first_value(setting) for name, setting in PAGE_SETTINGS.items()},
                "target": "POSITIVE", "chat": None}


def request_of(values, deployment=PRIVATE):
    """The request that the form makes."""
    return form_values.request_of(values, deployment)


def faults(values, deployment=PRIVATE):
    """What is wrong with the form's values."""
    return form_values.faults(values, deployment)


def accept(query, form, deployment=PRIVATE):
    """What a link's query string fills in, and what is ignored of it."""
    return share_links.accept(query, form, deployment)
