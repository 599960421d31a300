"""Parsing of form fields, for adapters."""

from sessioncore.http._forms import MAX_FORM, form_field, is_form

__all__ = ["MAX_FORM", "form_field", "is_form"]
