"""What the service answers, written down as OpenAPI 3.1: `/openapi.json`, and a page that is made from it.

`parts` is what a description is made of, `shapes` the values that travel, `bodies` what is read off the marshmallow
schemas. One table a face says what each of its routes does beside what all have in common; `document` puts that
together along the application's own route map, so that a route without a row cannot start. Nothing here decides what
the service does.
"""
