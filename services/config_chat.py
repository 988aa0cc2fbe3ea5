"""The settings of chat and of the bridge: parts of the tree in `services/config.py`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ChatSettings(BaseModel):
    """Answers that are streamed, and kept for a day."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answers_max: int = Field(256, ge=1)
    """Answers that this node writes at once; more are refused with QUEUE_FULL."""
    unread_s: float = Field(30.0, gt=0)
    """How long an answer is written that nobody reads. With less, a reader whose connection broke
    may come back too late; with more, models write for nobody."""
    answer_s_max: float = Field(600.0, gt=0)
    """The longest that an answer may take where its caller gives no deadline."""
    lease_s: float = Field(10.0, ge=1)
    """After how long without a sign of its node an answer is given up as lost."""
    heartbeat_s: float = Field(10.0, gt=0)
    """After how long without an event its readers get a sign of life."""


class BridgeSettings(BaseModel):
    """The small server beside Envoy for what Envoy cannot translate: uploads over REST,
    events with ids, sockets, OpenAI's API."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: str = "127.0.0.1:18081"
    """Where Envoy calls it."""
    uploads_max: int = Field(32, ge=1)
    """Uploads at once; more are refused with QUEUE_FULL, to be tried again. Each takes some
    hundred KiB of memory and a call of a node."""
    stall_s: float = Field(60.0, gt=0)
    """How long an upload may send nothing before it is ended."""
    streams_max: int = Field(512, ge=1)
    """Streams of events and sockets at once; more are refused with QUEUE_FULL."""
