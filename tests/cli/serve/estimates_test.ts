import { assert, assertEquals } from "@std/assert";
import { inTempDir } from "../../process.ts";
import { Api } from "./api.ts";
import { startServer } from "./server.ts";

/** What a request says of a clip that takes a second or two. */
const QUICK = { prompt: "a red circle", steps: 2, size: "32x32", frames: 5, seed: 7 };

Deno.test("what a clip costs is told before it is made, and the clip keeps to it", () =>
  inTempDir(async (dir) => {
    await using server = await startServer(dir);
    const api = await Api.open(server.url);
    const estimate = async (request: object) => {
      const { status, body } = await api.post("Estimate", "/v1/estimates", { ...QUICK, ...request });
      assertEquals(status, 200, JSON.stringify(body));
      return body;
    };
    const veda = { attention: "veda", keep: 0.3, size: "64x64", frames: 9 }, cold = await estimate(veda);
    assert((cold.density as number) < 1 && (cold.memory as number) > 10e6, JSON.stringify(cold));
    assertEquals([cold.tokens, cold.grid, cold.obstacle], [48, [3, 4, 4], null]);
    // Nothing was made here yet, and a software adapter has no published rates.
    if (/llvmpipe|SwiftShader/i.test(`${cold.adapter}`)) assertEquals([cold.seconds, cold.from], [null, null]);
    // Only the GPU can say what a router chooses.
    assertEquals((await estimate({ attention: "vorta" })).density, null);
    for (const request of [veda, { attention: "vorta" }]) {
      const { body: { id } } = await api.create({ ...QUICK, ...request });
      const { status, tilereel } = (await api.watch(id)).at(-1)!;
      assertEquals(status, "completed");
      const { record, took } = tilereel as { record: { density: number }; took: number };
      const after = await estimate({ ...request, prompt: "a blue ring", seed: 8 });
      assertEquals([after.seconds, after.from, after.clips], [took, "equal", 1]);
      assert(Math.abs((after.density as number) - record.density) < 1e-4, `${after.density} ${record.density}`);
    }
    const other = await estimate({ steps: 100 });
    assertEquals([other.from, other.clips], ["clips", 2]);
    assert((other.seconds as number) > 0);
    assertEquals((await estimate({ cache: "first-block" })).seconds, null);
    assertEquals((await api.post("Estimate", "/v1/estimates", { ...QUICK, size: "33x32" })).status, 400);
    assertEquals(server.errors(), "");
  }));
