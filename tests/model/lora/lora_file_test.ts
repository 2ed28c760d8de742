import { assertEquals } from "@std/assert";
import { writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";
import { readLora } from "../../../model/lora/lora_file.ts";
import { inTempDir } from "../../process.ts";

const f32 = (shape: readonly number[], ...data: number[]) =>
  ({ dtype: "F32", shape, data: Float32Array.from(data) }) as const;

Deno.test("a LoRA of a fused layer becomes updates of its parts; metadata and .alpha scale it", () =>
  inTempDir(async (dir) => {
    const file = `${dir}/fused.safetensors`;
    await writeSafetensors(file, {
      "qkv.lora_A.weight": f32([1, 2], 5, 6),
      "qkv.lora_B.weight": f32([4, 1], 1, 2, 3, 4),
      "qkv.diff_b": f32([4], 7, 8, 9, 10),
      "other.lora_down.weight": f32([2, 1], 1, 2),
      "other.lora_up.weight": f32([1, 2], 3, 4),
      "other.alpha": f32([1], 8),
    }, { lora_adapter_metadata: JSON.stringify({ "transformer.lora_alpha": 3, "transformer.r": 6 }) });
    const names = (stored: string) => {
      const [layer, ending] = stored.split(".");
      return layer === "qkv" ? [{ name: `q.${ending}` }, { name: `kv.${ending}`, share: 3 }] : stored;
    };
    const updates = await readLora(file, names);
    const plain = [...updates].map(([name, { factors, whole }]) => [
      name,
      factors && [factors.shape, [...factors.up], [...factors.down], factors.scale],
      whole && [whole.shape, [...whole.data]],
    ]);
    assertEquals(Object.fromEntries(plain.map(([name, ...rest]) => [name, rest])), {
      "q.weight": [[[1, 2], [1], [5, 6], 0.5], undefined],
      "kv.weight": [[[3, 2], [2, 3, 4], [5, 6], 0.5], undefined],
      "q.bias": [undefined, [[1], [7]]],
      "kv.bias": [undefined, [[3], [8, 9, 10]]],
      "other.weight": [[[1, 1], [3, 4], [1, 2], 4], undefined],
    });
  }));
