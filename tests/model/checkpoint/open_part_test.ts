import { assert, assertEquals, assertRejects } from "@std/assert";
import { TilereelError } from "../../../gpu/common/errors.ts";
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

Deno.test("a stored tensor becomes several of the family's, with their rows of its scale", () =>
  inTempDir(async (dir) => {
    const numbers = (count: number) => Float32Array.from({ length: count }, (_, i) => i + 1);
    const matrix = { dtype: "F32", shape: [6, 2], data: numbers(12) } as const;
    const write = (more = {}) =>
      writeSafetensors(`${dir}/model.safetensors`, {
        "linear1.weight": matrix,
        "linear1.weight_scale": { dtype: "F32", shape: [6, 1], data: numbers(6) },
        "linear1.bias": { dtype: "F32", shape: [6], data: numbers(6) },
        "qk.weight": matrix,
        "qk.weight_scale": { dtype: "F32", shape: [], data: Float32Array.of(10) },
        ...more,
      });
    const names = (stored: string) => {
      const [layer, kind] = stored.split(".");
      if (layer === "qk") return ["q", "k"].map((name) => ({ name: `${name}.${kind}` }));
      return [{ name: `v.${kind}` }, { name: `mlp.${kind}`, share: 2 }];
    };
    await write();
    using part = await openPart(dir, { stem: "model", names });
    const read = async (name: string, rows?: number[]) => [...await readFloat32(part, name, rows)];
    const all = ["k.weight", "mlp.bias", "mlp.weight", "q.weight", "v.bias", "v.weight"];
    assertEquals(part.names().sort(), all);
    const { shape, bytes } = part.info("mlp.weight");
    assertEquals([shape, bytes, part.info("v.bias").shape], [[4, 2], 32, [2]]);
    assertEquals(await read("v.weight"), [1, 2, 6, 8]);
    assertEquals(await read("mlp.weight"), [15, 18, 28, 32, 45, 50, 66, 72]);
    assertEquals(await read("mlp.weight", [3, 1]), [66, 72, 28, 32]);
    assertEquals(await read("mlp.bias"), [3, 4, 5, 6]);
    assertEquals([await read("q.weight"), await read("k.weight", [2])], [[10, 20, 30, 40, 50, 60], [110, 120]]);
    assertEquals(new Float32Array((await part.readRange("k.weight", 4, 8)).buffer), Float32Array.of(8, 9));
    await assertRejects(() => part.readRange("v.weight", 8, 12), RangeError, 'bytes 8 to 20 of "v.weight", which has');
    await assertRejects(() => read("v.weight", [2]), TilereelError, 'tensor "v.weight" in ');

    await write({ "linear2.weight": { ...matrix, shape: [4, 3] } });
    await assertRejects(
      () => openPart(dir, { stem: "model", names }),
      TilereelError,
      'the 4 rows of "linear2.weight" do not divide into v.weight, mlp.weight; use',
    );
  }));

Deno.test("weights with scales of another kind are refused, and not taken without them", () =>
  inTempDir(async (dir) => {
    const q = { dtype: "F8_E4M3", shape: [2, 4], data: new Uint8Array(8) } as const;
    const one = { dtype: "F32", shape: [1, 1], data: Float32Array.of(1) } as const;
    for (const name of ["q.weight_scale_inv", "q.weight.absmax", "q.weight_zero_point"]) {
      await writeSafetensors(`${dir}/model.safetensors`, { "q.weight": q, [name]: one });
      await assertRejects(
        () => openPart(dir, { stem: "model" }),
        TilereelError,
        `is quantised in a way that is not read, because it has the tensor "${name}"`,
      );
    }
    const int8 = { dtype: "I8", shape: [2, 4], data: new Uint8Array(8) } as const;
    await writeSafetensors(`${dir}/model.safetensors`, { "q.weight": int8, "q.weight_scale": one });
    await assertRejects(() => openPart(dir, { stem: "model" }), TilereelError, '"q.weight_scale", which is not read');
  }));
