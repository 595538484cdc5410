"""Parameter-efficient tuning (PET) of a frozen timm ViT: adapter, SSF, VPT and LoRA behind one `attach`.

Full fine-tuning is a kind beside them, so that it can be compared. `class_token_alone` prepares a ViT: its last block
then computes no more than the embedding needs.
"""

from __future__ import annotations

from safe.pet.base import PetViT
from safe.pet.class_token import class_token_alone
from safe.pet.registry import attach, kinds, register, settings_of

__all__ = ["PetViT", "attach", "class_token_alone", "kinds", "register", "settings_of"]
