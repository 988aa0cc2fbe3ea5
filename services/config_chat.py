"""The settings of chat: a part of the tree in `services/config.py`."""

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
