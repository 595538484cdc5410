"""The last block of a ViT for its class token alone.

Where the embedding is the class token's, nothing reads what the last block gives of the other tokens: they are needed
as its keys and values only. Leaving out their attention and MLP saves most of one block in every pass, forward and
backward; the embedding is the same up to rounding.
"""

from __future__ import annotations

import copy

import torch.nn.functional as F
from timm.layers import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from safe.pet.base import shared_tensors


class ClassTokenBlock(Block):
    """timm's `Block` over the modules of `block`, by the same names, for the first token: (B, N, D) -> (B, 1, D)."""

    def __init__(self, block: Block) -> None:
        nn.Module.__init__(self)  # not Block's, which would make modules of its own
        for name, module in block.named_children():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        """Return the first token of the block's output."""
        x = after_attention(self, x)
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


def after_attention(block: Block, x: Tensor) -> Tensor:
    """Return the residual stream between a block's two branches; of the first token alone for a `ClassTokenBlock`."""
    if isinstance(block, ClassTokenBlock):
        return x[:, :1] + block.drop_path1(block.ls1(_attend(block.attn, block.norm1(x))))
    return x + block.drop_path1(block.ls1(block.attn(block.norm1(x))))


def class_token_alone(vit: VisionTransformer) -> VisionTransformer:
    """Return a structural copy of `vit` over the same tensors whose last block gives the class token alone.

    `vit` itself stays as it was, and is returned where its embedding is not the class token's or its last block is not
    timm's pre-norm block with plain attention. Parameter names and `vit(x)` stay the same.
    """
    if type(vit) is not VisionTransformer or vit.global_pool != "token" or not len(vit.blocks):
        return vit
    last = vit.blocks[-1]
    if type(last) is not Block or type(last.attn) is not Attention or getattr(last.attn, "gate", None) is not None:
        return vit
    trimmed = copy.deepcopy(vit, shared_tensors(vit))
    trimmed.blocks[-1] = ClassTokenBlock(trimmed.blocks[-1])
    return trimmed


def _attend(attention: Attention, x: Tensor) -> Tensor:
    """Return timm's `Attention` of the first token to all: (B, N, D) -> (B, 1, D)."""
    shape = (*x.shape[:2], 3, attention.num_heads, attention.head_dim)
    query, key, value = attention.qkv(x).reshape(shape).permute(2, 0, 3, 1, 4).unbind(0)
    query, key = attention.q_norm(query[:, :, :1]), attention.k_norm(key)
    dropout = attention.attn_drop.p if attention.training else 0.0
    heads = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    merged = attention.norm(heads.transpose(1, 2).flatten(2))
    projected: Tensor = attention.proj_drop(attention.proj(merged))
    return projected
