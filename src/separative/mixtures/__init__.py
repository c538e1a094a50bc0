"""Interference: draw speakers, gains, noise, rooms and channels; emit condition groups (method, section 1)."""

from separative.mixtures.batch import Batch, ConditionGroup, Mixture
from separative.mixtures.channel import Channel
from separative.mixtures.config import MixtureConfig, Stage
from separative.mixtures.conversation import Conversation, ConversationConfig, Conversations
from separative.mixtures.gains import Mixed, gain_for, mix_at, ratio_db
from separative.mixtures.mixer import Mixer, loader
from separative.mixtures.rooms import RoomBank

__all__ = [
    "Batch",
    "Channel",
    "ConditionGroup",
    "Conversation",
    "ConversationConfig",
    "Conversations",
    "Mixed",
    "Mixer",
    "Mixture",
    "MixtureConfig",
    "RoomBank",
    "Stage",
    "gain_for",
    "loader",
    "mix_at",
    "ratio_db",
]
