"""HTTP: session IDs, cookies, extractors, form fields and response headers."""
