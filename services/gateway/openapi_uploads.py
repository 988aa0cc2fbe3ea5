"""The one path that no HTTP rule says: uploads, which the bridge takes."""

from __future__ import annotations

from typing import Any

from services.gateway.openapi_schemas import Schemas

_HEADER, _DOCUMENT = "ragmesh.api.documents.v1.UploadHeader", "ragmesh.api.documents.v1.Document"
_RESPONSE = "ragmesh.api.documents.v1.UploadDocumentResponse"
_FROM_HEADER = ("document_id", "request_id", "replace_existing")
_FROM_DOCUMENT = ("display_name", "media_type", "source_uri")
_DESCRIPTION = (
    "Stores a file of up to 256 MiB, sent as it is or as the one file of a form, and queues its "
    "ingestion. The body is streamed: nothing of it is held on the way, and an upload that is cut "
    "leaves nothing. Fails as UploadDocument does; with MESSAGE_TOO_LARGE (413) before the body "
    "where its length says so, and with QUEUE_FULL (429) and Retry-After while too many come in."
)


def upload_operation(schemas: Schemas, collection: dict[str, Any]) -> dict[str, Any]:
    """The operation for OpenAPI. `collection` is the parameter of the path."""
    asked = _asked(schemas)
    query = [
        {
            "name": name,
            "in": "query",
            "description": schema["description"],
            "schema": {key: value for key, value in schema.items() if key != "description"},
        }
        for name, schema in asked.items()
    ]
    file = {"type": "string", "format": "binary"}
    form = {"type": "object", "required": ["file"], "properties": {**asked, "file": file}}
    return {
        "operationId": "UploadDocument",
        "tags": ["documents"],
        "summary": "Stores a file of up to 256 MiB",
        "description": _DESCRIPTION,
        "parameters": [
            collection,
            *query,
            {
                "name": "Content-Disposition",
                "in": "header",
                "description": "Its `filename` is the display name where the query has none.",
                "schema": {"type": "string"},
            },
        ],
        "requestBody": {
            "required": True,
            "description": "The file, whose Content-Type is its media type; or a form, in which "
            "fields come before the file.",
            "content": {"*/*": {"schema": file}, "multipart/form-data": {"schema": form}},
        },
        "responses": {
            "200": {
                "description": schemas.comment(_RESPONSE),
                "content": {"application/json": {"schema": schemas.reference(_RESPONSE)}},
            },
            "default": {"$ref": "#/components/responses/Error"},
        },
    }


def _asked(schemas: Schemas) -> dict[str, dict[str, Any]]:
    """What may be said beside the file, by its name in JSON."""
    found = {}
    for message, names in ((_HEADER, _FROM_HEADER), (_DOCUMENT, _FROM_DOCUMENT)):
        for field in schemas.message(message).field:
            if field.name in names:
                found[field.json_name] = schemas.field(message, field)
    payload = "The document's payload, a JSON object."
    found["payload"] = {"type": "string", "description": payload}
    return found
