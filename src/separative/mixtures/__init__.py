"""Draw mixtures of a target speaker with interferers, noise, rooms and channels (method, section 1).

Single mixtures come in condition groups for training; whole conversations are simulated for evaluation.
"""

from separative.mixtures.batch import Batch, ConditionGroup, Mixture
from separative.mixtures.channel import Channel
from separative.mixtures.config import ConversationConfig, MixtureConfig, NuisanceConfig, Stage
from separative.mixtures.conversation import Conversation
from separative.mixtures.gains import Mixed, gain_for, mix_at, ratio_db
from separative.mixtures.loader import loader
from separative.mixtures.microphone import Microphone
from separative.mixtures.mixer import Mixer
from separative.mixtures.noises import BackgroundNoise
from separative.mixtures.rooms import RoomBank, SyntheticRoom
from separative.mixtures.simulator import ConversationSimulator, write_recordings
from separative.mixtures.styles import STYLES, Style

__all__ = [
    "STYLES",
    "BackgroundNoise",
    "Batch",
    "Channel",
    "ConditionGroup",
    "Conversation",
    "ConversationConfig",
    "ConversationSimulator",
    "Microphone",
    "Mixed",
    "Mixer",
    "Mixture",
    "MixtureConfig",
    "NuisanceConfig",
    "RoomBank",
    "Stage",
    "Style",
    "SyntheticRoom",
    "gain_for",
    "loader",
    "mix_at",
    "ratio_db",
    "write_recordings",
]
