"""The web applications and the API over HTTP: routes, bodies, sessions and pages. Decides nothing about payments."""
