/** What `tilereel tune` may choose changes no result beyond its precision's bound of parity with diffusers. */
import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { Gpu } from "../../../gpu/gpu.ts";
import { FAMILIES } from "../../../gpu/tuning/families.ts";
import { embeddedModelDir } from "../../../model/embedded.ts";
import { passes } from "../../../model/parity/case.ts";
import { planParity, runParity } from "../../../model/parity/parity.ts";
import { exceptPlain, testVariants } from "../../gpu.ts";
import { inTempDir, ROOT } from "../../process.ts";

/** The places in each family's list whose variants are chosen: on a software renderer, which compiles them slowly, two. */
const PLACES = { hardware: [0, 1 / 4, 1 / 2, 3 / 4, 1], software: [0, 1] };

testVariants(
  "every choice of kernels passes parity with diffusers",
  ({ gpu: { device, settings }, hardware }) =>
    inTempDir(async (dir) => {
      // Its heads of 128 channels are those that trials are for.
      await Deno.symlink(join(ROOT, "tests/fixtures/tiny_hd128"), join(dir, "tiny_hd128"));
      const plan = await planParity(dir);
      for (const place of PLACES[hardware ? "hardware" : "software"]) {
        const gpu = new Gpu(device, settings), chosen: string[] = [];
        gpu.poison = true;
        for (const family of FAMILIES) {
          const names = [...family.variants(gpu).keys()], name = names[Math.round(place * (names.length - 1))];
          if (name === undefined) continue;
          gpu.kernels.choose(family.name, name);
          chosen.push(name);
        }
        const checks = await Array.fromAsync(runParity(plan, { gpus: [gpu], model: embeddedModelDir() }));
        assertEquals(checks.filter((check) => !passes(check)), [], chosen.join("; "));
        assert(checks.length > 0);
      }
    }),
  exceptPlain,
);
