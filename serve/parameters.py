"""Controls as programs and pages give them: texts of a query or form, values of JSON."""

from dataclasses import fields

from allaprima.core.contract import Controls
from allaprima.core.errors import AllaprimaError

SWITCH = {"true": True, "false": False}  # how a query says what is on or off


def controls_of(parameters) -> Controls:
    """Controls from texts or values by name. Raises AllaprimaError for an unknown name or a value out of range."""
    known = {field.name: field.default for field in fields(Controls)}
    values = {}
    for name, given in parameters.items():
        if name not in known:
            raise AllaprimaError(f"There is no parameter {name!r}: use style, format, {', '.join(known)}.")
        read = (lambda text: SWITCH.get(text, text)) if isinstance(known[name], bool) else float
        try:
            values[name] = read(given) if isinstance(given, str) else given
        except ValueError as error:
            raise AllaprimaError(f"{name} must be a number, not {given!r}.") from error
    return Controls(**values)
