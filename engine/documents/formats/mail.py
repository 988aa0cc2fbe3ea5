"""Mails (.eml): the fields a reader sees, the text, and what is attached, each by its parser."""

from __future__ import annotations

import email
import email.policy
import email.utils
import re
from collections.abc import Iterator
from email.message import Message

from engine.documents.clean import clean
from engine.documents.encoding import decode, decode_as
from engine.documents.formats import EML, Hints
from engine.documents.formats.html import drafts_of as html_drafts
from engine.documents.formats.nested import drafts_within
from engine.documents.formats.text import drafts_of as text_drafts
from engine.documents.parsed import Draft, Parsed, assemble
from engine.errors import DocumentUnreadable, ParserLimitExceeded

ATTACHMENTS_MAX = 100
_PARTS_MAX = 1_000
_FIELDS = ("From", "To", "Cc", "Date", "Subject")
_ENCODED_WORD = re.compile(r"=\?[^?\s]{1,60}\?[bBqQ]\?[^?]{0,4000}\?=")
_ENVELOPES = frozenset(("application/pkcs7-mime", "application/x-pkcs7-mime"))
_QUOTE = re.compile(r"(?m)^[ \t]*(?:>[ \t]?)+")


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read a message (RFC 5322). The subject is the title and a heading; attachments follow the
    text, each under a heading with its name."""
    message = _message(data)
    subject = field(message, "Subject")
    if _is_encrypted(message):
        raise encrypted()
    sender = field(message, "From")
    drafts = [
        *envelope_drafts({name: field(message, name) for name in _FIELDS}),
        *_body(message, hints),
    ]
    return assemble(
        subject,
        EML,
        drafts,
        author=sender,
        created=mail_date(field(message, "Date")),
    )


def _is_encrypted(message: Message) -> bool:
    """By PGP or S/MIME; what S/MIME only signs is in another kind of envelope."""
    if message.get_content_type() == "multipart/encrypted":
        return True
    kind = str(message.get_param("smime-type") or "enveloped-data")
    return message.get_content_type() in _ENVELOPES and kind == "enveloped-data"


def encrypted() -> DocumentUnreadable:
    """The refusal of a mail that only its receiver can open."""
    return DocumentUnreadable(
        "the mail is encrypted for its receiver (S/MIME or PGP); send it decrypted",
        metadata={"reason": "encrypted"},
    )


def _message(data: bytes) -> Message:
    """compat32: the modern policy raises on headers that are out in the world."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in data[:64]:
        data = decode(data).encode("utf-8", errors="replace")
    return email.message_from_bytes(data.lstrip(b"\r\n\xef\xbb\xbf"), policy=email.policy.compat32)


def field(message: Message, name: str) -> str:
    """A header field with its encoded words read, on one line; empty where it is missing."""
    raw = message.get(name)
    return "" if raw is None else " ".join(clean(decoded_words(str(raw))).split())


def decoded_words(raw: str) -> str:
    """Encoded words (RFC 2047) as text; one that cannot be read stays as it is."""
    from email.header import decode_header

    if raw.isascii() and "=?" not in raw:
        return raw
    if not raw.isascii():  # bytes of some encoding, as surrogates
        raw = decode(raw.encode("utf-8", errors="surrogateescape"))
    if not _ENCODED_WORD.search(raw):
        return raw
    try:
        pieces = decode_header(raw)
    except (ValueError, LookupError, email.errors.MessageError):
        return raw
    return "".join(
        decode_as(piece, charset or "") if isinstance(piece, bytes) else piece
        for piece, charset in pieces
    )


def mail_date(value: str) -> str:
    """The Date field as ISO 8601; empty if it is no date."""
    try:
        return email.utils.parsedate_to_datetime(value).isoformat()
    except (ValueError, TypeError, OverflowError):
        return ""


def envelope_drafts(fields: dict[str, str]) -> Iterator[Draft]:
    """The subject as a heading, and one line for each other field that is there."""
    subject = fields.get("Subject", "")
    if subject:
        yield Draft("heading", subject, level=1)
    lines = [f"{name}: {value}" for name, value in fields.items() if value and name != "Subject"]
    yield Draft("paragraph", "\n".join(lines), role="boilerplate")


def _body(message: Message, hints: Hints) -> Iterator[Draft]:
    text: list[Draft] = []
    attached: list[tuple[str, str, bytes]] = []
    for part in _readable_parts(message):
        name = clean(decoded_words(part.get_filename() or ""))
        kind = part.get_content_type()
        payload = _payload(part)
        if part.get_content_disposition() == "attachment" or not kind.startswith("text/"):
            attached.append((name, kind, payload))
        elif kind == "text/html":
            text += html_drafts(decode_as(payload, _charset(part)))
        elif name and kind != "text/plain":
            attached.append((name, kind, payload))
        else:
            text += text_drafts(_QUOTE.sub("", decode_as(payload, _charset(part))))
    yield from text
    yield from attachment_drafts(attached, hints)


def _readable_parts(message: Message) -> Iterator[Message]:
    """The leaves, of alternatives only the one that says most to a reader of text."""
    stack: list[Message] = [message]
    parts = 0
    while stack:
        part = stack.pop()
        parts += 1
        if parts > _PARTS_MAX:
            raise ParserLimitExceeded(
                f"the mail has more than {_PARTS_MAX} parts; send its text",
                metadata={"bound": _PARTS_MAX},
            )
        inner = part.get_payload()
        if (
            part.get_content_type() == "message/rfc822"
            or not part.is_multipart()
            or not isinstance(inner, list)
        ):
            yield part
        elif part.get_content_type() == "multipart/alternative":
            stack += _best([each for each in inner if isinstance(each, Message)])
        else:
            stack += [each for each in reversed(inner) if isinstance(each, Message)]


def _best(alternatives: list[Message]) -> list[Message]:
    """HTML, because it has the structure; plain text where the HTML is not there or says nothing;
    and always what is neither (an invitation)."""
    if not alternatives:
        return []
    pages = [each for each in alternatives if each.get_content_type() == "text/html"]
    texts = [each for each in alternatives if each.get_content_type() == "text/plain"]
    others = [each for each in alternatives if each.is_multipart()]
    for each in pages:
        if any(html_drafts(decode_as(_payload(each), _charset(each)))):
            return [each]
    return others[-1:] or texts[-1:] or alternatives[-1:]


def _payload(part: Message) -> bytes:
    """The bytes of a part, its transfer encoding undone as far as it goes."""
    if part.get_content_type() == "message/rfc822":
        inner = part.get_payload()
        first = inner[0] if isinstance(inner, list) and inner else None
        return first.as_bytes() if isinstance(first, Message) else b""
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _charset(part: Message) -> str:
    try:
        return part.get_content_charset() or ""
    except (ValueError, LookupError, UnicodeError):
        return ""


def attachment_drafts(attached: list[tuple[str, str, bytes]], hints: Hints) -> Iterator[Draft]:
    """What attachments (name, media type, bytes) say, each under its name. One that cannot be
    read, or of no kind that is, leaves its name and the reason. Limits are the whole mail's."""
    for number, (name, kind, data) in enumerate(attached):
        if number >= ATTACHMENTS_MAX:
            raise ParserLimitExceeded(
                f"the mail has {len(attached)} attachments, more than {ATTACHMENTS_MAX}; send "
                "them by themselves",
                metadata={"attachments": len(attached), "bound": ATTACHMENTS_MAX},
            )
        yield Draft("heading", f"Attachment: {name or kind}", level=1)
        yield from drafts_within(data, hints.within(name, kind))
