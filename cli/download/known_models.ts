/** Models that can be downloaded by a short name, and their names on Hugging Face. */
export const KNOWN_MODELS: Readonly<Record<string, string>> = {
  "wan-1.3b": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
  "wan-14b": "Wan-AI/Wan2.1-T2V-14B-Diffusers",
  "wan-i2v-480p": "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
  "wan-i2v-720p": "Wan-AI/Wan2.1-I2V-14B-720P-Diffusers",
  "wan-flf2v": "Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers",
  "wan2.2-5b": "Wan-AI/Wan2.2-TI2V-5B-Diffusers",
  "wan2.2-t2v": "Wan-AI/Wan2.2-T2V-A14B-Diffusers",
  "wan2.2-i2v": "Wan-AI/Wan2.2-I2V-A14B-Diffusers",
  "fastwan-1.3b": "FastVideo/FastWan2.1-T2V-1.3B-Diffusers",
  "fastwan-14b": "FastVideo/FastWan2.1-T2V-14B-480P-Diffusers",
  "fastwan2.2-5b": "FastVideo/FastWan2.2-TI2V-5B-FullAttn-Diffusers",
  hunyuan: "hunyuanvideo-community/HunyuanVideo",
};
