"""For adapters: one field out of the body of a form."""

from sessioncore.http._forms import MAX_FORM, form_field, is_form

__all__ = ["MAX_FORM", "form_field", "is_form"]
