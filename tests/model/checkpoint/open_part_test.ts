import { assert, assertEquals } from "@std/assert";
import { openPart } from "../../../model/checkpoint/open_part.ts";
import { readFloat32 } from "../../../model/checkpoint/tensor_source.ts";
import { writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";
import { inTempDir } from "../../process.ts";

Deno.test("a part is opened from its folder or a file of any name, under the family's names", () =>
  inTempDir(async (dir) => {
    const tensors = { "self_attn.q": { dtype: "F32", shape: [2], data: Float32Array.of(1, 2) } } as const;
    await writeSafetensors(`${dir}/model.safetensors`, tensors, { from: "elsewhere" });
    await Deno.copyFile(`${dir}/model.safetensors`, `${dir}/wan.bin`);
    const names = (stored: string) => stored.replace("self_attn", "attn1");
    for (const place of [dir, `${dir}/wan.bin`]) {
      using part = await openPart(place, { stem: "model", names });
      assertEquals([part.names(), part.metadata.from], [["attn1.q"], "elsewhere"]);
      assert(!part.has("self_attn.q"));
      assertEquals(part.info("attn1.q").name, "attn1.q");
      assertEquals([...await readFloat32(part, "attn1.q")], [1, 2]);
    }
  }));
