"""What a browser sends and gets: cookies, the places where an ID may stand, forms, response headers."""
