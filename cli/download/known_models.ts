/** Models that can be downloaded by a short name, and their names on Hugging Face. */
export const KNOWN_MODELS: Readonly<Record<string, string>> = {
  "wan-1.3b": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
  "wan-14b": "Wan-AI/Wan2.1-T2V-14B-Diffusers",
  "fastwan-1.3b": "FastVideo/FastWan2.1-T2V-1.3B-Diffusers",
  "fastwan-14b": "FastVideo/FastWan2.1-T2V-14B-480P-Diffusers",
  hunyuan: "hunyuanvideo-community/HunyuanVideo",
};
