"""tiny_*: small models of other shapes than the demo's, with random weights, each with inputs and outputs.

Their weights are fixtures too. Norms, biases and tables are moved off the values that they begin with (0 and 1 would
hide mistakes) by numbers drawn on the device, so that a CPU makes other weights than a GPU.
"""
import torch

from common import DEVICE
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

TRANSFORMER = dict(
    patch_size=(1, 2, 2), in_channels=16, out_channels=16, freq_dim=256, cross_attn_norm=True,
    qk_norm="rms_norm_across_heads", eps=1e-6, rope_max_seq_len=1024,
)
HD128 = dict(num_attention_heads=2, attention_head_dim=128, ffn_dim=320, num_layers=2, text_dim=64)
HD64 = dict(num_attention_heads=3, attention_head_dim=64, ffn_dim=256, num_layers=3, text_dim=48)
VAE = dict(
    base_dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, temperal_downsample=[False, True, True],
)
UMT5 = dict(
    vocab_size=300, d_model=64, d_kv=16, d_ff=96, num_layers=3, num_heads=4, dropout_rate=0.0,
    feed_forward_proj="gated-gelu", tie_word_embeddings=False,
)
TOKENS = 150
#: How many of the second row's tokens are a prompt; the rest is padding.
SHORT_PROMPT = 90


def make_transformer(references, config):
    """A transformer whose every weight matters."""
    references.seed_everything(11)
    model = WanTransformer3DModel(**TRANSFORMER, **config).to(DEVICE).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2 or "scale_shift" in name:
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def transformer_reference(references, name, model, latents, text_tokens):
    """One forward pass: latents [batch, channels, frames, rows, columns], texts of `text_tokens` tokens."""
    batch = latents[0]
    inputs = {
        "hidden_states": references.randn(12, *latents).to(DEVICE),
        "timestep": torch.tensor([711.0, 33.0][:batch], device=DEVICE),
        "encoder_hidden_states": references.randn(13, batch, text_tokens, model.config.text_dim).to(DEVICE),
    }
    output = model(**inputs, return_dict=False)[0]
    references.save(f"{name}/reference", {**inputs, "output": output})


def make_vae(references):
    references.seed_everything(14)
    return AutoencoderKLWan(**VAE).to(DEVICE).eval()


def vae_reference(references, model):
    """Decoding of latents and encoding of a clip, both with sides of their own."""
    latents = references.randn(15, 1, 16, 3, 5, 7).to(DEVICE)
    clip = torch.tanh(references.randn(16, 1, 3, 5, 40, 56)).to(DEVICE)
    posterior = model.encode(clip).latent_dist
    decoded = model.decode(latents).sample
    tensors = {"latents": latents, "decoded": decoded, "clip": clip, "mean": posterior.mean, "logvar": posterior.logvar}
    references.save("tiny_vae/reference", tensors)


def make_umt5(references):
    references.seed_everything(17)
    return UMT5EncoderModel(UMT5Config(**UMT5)).to(DEVICE).eval()


def umt5_reference(references, model):
    """Two rows of tokens, the second one padded."""
    ids = torch.randint(3, UMT5["vocab_size"], (2, TOKENS), generator=references.generator(18)).to(DEVICE)
    mask = torch.ones_like(ids)
    ids[1, SHORT_PROMPT:] = 0
    mask[1, SHORT_PROMPT:] = 0
    hidden = model(ids, mask).last_hidden_state
    references.save("tiny_umt5/reference", {"input_ids": ids, "attention_mask": mask, "last_hidden_state": hidden})


@torch.no_grad()
def make(references):
    # Stored in many small files, so that loading of sharded checkpoints is tested too.
    for name, config, latents, text_tokens in (
        ("tiny_hd128", HD128, (1, 16, 5, 10, 14), 17),
        ("tiny_hd64", HD64, (2, 16, 3, 12, 8), 40),
    ):
        model = make_transformer(references, config)
        model.save_pretrained(references.path(name), max_shard_size="1MB")
        transformer_reference(references, name, model, latents, text_tokens)
    autoencoder = make_vae(references)
    autoencoder.save_pretrained(references.path("tiny_vae"))
    vae_reference(references, autoencoder)
    text_encoder = make_umt5(references)
    text_encoder.save_pretrained(references.path("tiny_umt5"), max_shard_size="100KB")
    umt5_reference(references, text_encoder)
