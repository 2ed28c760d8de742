"""tiny_llama, tiny_clip_text: small text encoders of HunyuanVideo's kinds with random weights, with tokens and what
becomes of them.

Their weights are fixtures, too, drawn on the CPU. LLaMA's tokens are padded; the text is the output of the last layer
but two. CLIP's have several end tokens, the first of which counts.
"""
import torch

from common import DEVICE
from hunyuan import stir
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel

LLAMA = dict(
    vocab_size=320, hidden_size=64, intermediate_size=160, num_hidden_layers=5, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-5, rope_theta=500000.0,
)
#: Tokens, and how many of them are a prompt.
TOKENS, PROMPT = 40, 29
START, END = 118, 119
CLIP = dict(
    vocab_size=120, hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
    max_position_embeddings=32, projection_dim=48, bos_token_id=START, eos_token_id=END,
)
CLIP_PROMPT = 19


def llama(references):
    references.seed_everything(250)
    model = stir(LlamaModel(LlamaConfig(**LLAMA)).eval(), references.generator(250)).to(DEVICE)
    model.save_pretrained(references.path("tiny_llama"))
    ids = torch.randint(3, LLAMA["vocab_size"], (1, TOKENS), generator=references.generator(251)).to(DEVICE)
    mask = torch.ones_like(ids)
    mask[:, PROMPT:] = 0
    hidden = model(ids, attention_mask=mask, output_hidden_states=True).hidden_states
    tensors = {"input_ids": ids, "attention_mask": mask, "hidden_states.-3": hidden[-3], "last_hidden_state": hidden[-1]}
    references.save("tiny_llama/reference", tensors)


def clip(references):
    references.seed_everything(260)
    model = stir(CLIPTextModel(CLIPTextConfig(**CLIP)).eval(), references.generator(260)).to(DEVICE)
    model.save_pretrained(references.path("tiny_clip_text"))
    tokens = CLIP["max_position_embeddings"]
    ids = torch.randint(3, START - 1, (1, tokens), generator=references.generator(261)).to(DEVICE)
    ids[:, 0], ids[:, CLIP_PROMPT:] = START, END
    out = model(ids)
    tensors = {"input_ids": ids, "last_hidden_state": out.last_hidden_state, "pooler_output": out.pooler_output}
    references.save("tiny_clip_text/reference", tensors)


@torch.no_grad()
def make(references):
    llama(references)
    clip(references)
