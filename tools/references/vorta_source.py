"""The VORTA authors' functions that the references come from (VORTA_SRC: the folder that holds their package)."""
import os
import sys
import types

import torch
import torch.nn.functional as F
from torch.nn.attention.flex_attention import create_block_mask, create_mask

from common import DEVICE  # first, as it says where diffusers is


def _stand_in(name, attributes):
    """Registers an empty module, for what the authors' package imports but is not used here."""
    module = types.ModuleType(name)
    for attribute in attributes:
        setattr(module, attribute, None)
    sys.modules[name] = module


# Reading of videos and distributed training, which want packages of their own.
_stand_in("decord", [])
_stand_in("vorta.utils.video_io", ["load_video", "save_video"])
_stand_in("vorta.train", ["load_router_checkpoint", "load_optimizer_checkpoint", "save_checkpoint"])
if "VORTA_SRC" in os.environ:
    sys.path.insert(0, os.environ["VORTA_SRC"])

import vorta.attention.sliding_attn_flex  # noqa: E402
import vorta.attention.wan  # noqa: E402
from vorta.attention import (  # noqa: E402, F401
    create_sliding_tile_attn_mask_func,
    get_group_info,
    pool_sequence_by_similarity,
    unpool_sequence_by_similarity,
)
from vorta.attention.sliding_attn_flex import sliding_tile_flex_attn  # noqa: E402, F401
from vorta.attention.tile import tile_layout  # noqa: E402, F401
from vorta.patch.modeling_wan import apply_vorta_transformer  # noqa: E402, F401
from vorta.patch.utils import (  # noqa: E402, F401
    prepare_hunyuan_self_attn_kwargs,
    prepare_wan_self_attn_kwargs,
)


def masked_attention(query, key, value, block_mask):
    """FlexAttention's result by plain attention: PyTorch has no gradients of the former on a CPU."""
    mask = create_mask(block_mask.mask_mod, None, None, query.shape[2], key.shape[2], DEVICE)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _uncompiled_block_mask(*args, _compile, **kwargs):
    return create_block_mask(*args, **kwargs)


if DEVICE == "cpu":
    vorta.attention.wan.flex_attention = masked_attention
    vorta.attention.sliding_attn_flex.create_block_mask = _uncompiled_block_mask
