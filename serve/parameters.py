"""Controls as programs and pages give them: texts of a query or form, values of JSON."""

from dataclasses import fields

from allaprima.core.contract import Controls
from allaprima.core.errors import AllaprimaError

SWITCH = {"true": True, "false": False}  # how a query says what is on or off
# those of Controls that a single picture has, and their defaults: `steady` is for frames in their order
CONTROLS = {field.name: field.default for field in fields(Controls) if field.name != "steady"}


def controls_of(parameters) -> Controls:
    """Controls from texts or values by name. Raises AllaprimaError for an unknown name or a value out of range."""
    values = {}
    for name, given in parameters.items():
        if name not in CONTROLS:
            raise AllaprimaError(f"There is no parameter {name!r}: use style, format, {', '.join(CONTROLS)}.")
        read = (lambda text: SWITCH.get(text.lower(), text)) if isinstance(CONTROLS[name], bool) else float
        try:
            values[name] = read(given) if isinstance(given, str) else given
        except ValueError as error:
            raise AllaprimaError(f"{name} must be a number, not {given!r}.") from error
    return Controls(**values)
