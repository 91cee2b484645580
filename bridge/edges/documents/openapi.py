"""The OpenAPI 3.1 document, put together from the table of paths (https://spec.openapis.org/oas/v3.1.0)."""

from typing import Final

from bridge import __version__
from bridge.core.jsonschema import STRING, Schema, ref
from bridge.core.messages import schemas
from bridge.core.streams import Catalogue
from bridge.edges.documents.paths import (
    ERROR_HEADERS,
    HEADERS,
    HTTP_ERRORS,
    HTTP_SCHEMAS,
    OPERATIONS,
    Operation,
    Parameter,
)
from bridge.edges.negotiation import JSON

LICENSE: Final = {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}


def openapi(catalogue: Catalogue) -> Schema:
    """Return the document.

    Args:
        catalogue: the declared streams.
    """
    paths: dict[str, dict[str, object]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = operation_object(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "theblock-bridge",
            "version": __version__,
            "description": "HTTP of the sidecar. HEAD is answered wherever GET is.",
            "license": LICENSE,
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": schemas(catalogue) | HTTP_SCHEMAS},
    }


def operation_object(operation: Operation) -> Schema:
    """Return what the document says of an operation."""
    described: Schema = {"operationId": operation.name, "summary": operation.doc, "responses": responses(operation)}
    if operation.parameters:
        described["parameters"] = [parameter_object(parameter) for parameter in operation.parameters]
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": operation.body}}}
    return described


def parameter_object(parameter: Parameter) -> Schema:
    """Return what the document says of a parameter."""
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required or parameter.place == "path",
        "description": parameter.doc,
        "schema": parameter.schema,
    }


def responses(operation: Operation) -> Schema:
    """Return what may answer an operation, by status."""
    found: Schema = {}
    if operation.contents:
        content = {content.type: {"schema": content.schema} for content in operation.contents}
        found["200"] = {"description": operation.doc, "content": content} | headers(operation.headers)
    else:
        found["101"] = {"description": "The WebSocket is open."}
    if operation.body is not None:
        found["204"] = {"description": "Nobody wants an answer."}
    if "ETag" in operation.headers:
        found["304"] = {"description": "The client has it already."} | headers(("ETag",))
    codes = ("FORBIDDEN", *operation.errors)
    for error in HTTP_ERRORS:
        if error.code in codes:
            found.setdefault(str(error.status), error_object(error.status, codes))
    return found


def error_object(status: int, codes: tuple[str, ...]) -> Schema:
    """Return what the document says of an answer that is an error."""
    reasons = [f"{e.code}: {e.when}." for e in HTTP_ERRORS if e.status == status and e.code in codes]
    content = {JSON: {"schema": ref("HttpError")}}
    return {"description": " ".join(reasons), "content": content} | headers(ERROR_HEADERS.get(status, ()))


def headers(names: tuple[str, ...]) -> Schema:
    """Return what the document says of headers of an answer."""
    return {"headers": {name: {"description": HEADERS[name], "schema": STRING} for name in names}} if names else {}
