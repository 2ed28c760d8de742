/** Opening a device leaves the process's environment and functions as they were. */
import { assertEquals } from "@std/assert";
import { dawnAddon } from "../../../gpu/native/dawn_addon.ts";
import { execute } from "../../process.ts";

const GPU = import.meta.resolve("../../../gpu/");

/** Runs a script in a process of its own, without some variables of the environment. */
function runScript(script: string, without: readonly string[]) {
  const env = Deno.env.toObject();
  for (const name of without) delete env[name];
  return execute(Deno.execPath(), ["eval", "--no-check", "--quiet", script], {
    ...{ clearEnv: true, env },
    signal: AbortSignal.timeout(30_000),
  });
}

for (const choice of ["auto", "gl"]) {
  Deno.test(`opening a device over Deno's WebGPU, ${choice}: no variable stays set, and drivers print no warnings`, async () => {
    const { code, out, err } = await runScript(
      `import { listAdapters } from "${GPU}native/open.ts";
const environment = () => Object.entries(Deno.env.toObject()).sort().join();
const before = environment();
const adapters = await listAdapters(${JSON.stringify(choice)});
console.log(adapters.length > 0, environment() === before);`,
      ["XDG_RUNTIME_DIR", "DENO_WEBGPU_BACKEND", "__GL_SHADER_DISK_CACHE"],
    );
    assertEquals([code, out, err], [0, "true true\n", ""]);
  });
}

for (const [said, seen] of [[undefined, "1"], ["0", "0"]]) {
  Deno.test(`NVIDIA's driver is told to keep compiled kernels, unless the user says otherwise: ${said ?? "nothing"}`, async () => {
    const { code, out, err } = await runScript(
      `import { listAdapters } from "${GPU}native/open.ts";
const seen = new Set(), requested = () => (seen.add(Deno.env.get("__GL_SHADER_DISK_CACHE")), Promise.resolve(null));
navigator.gpu.requestAdapter = requested;
${said === undefined ? "" : `Deno.env.set("__GL_SHADER_DISK_CACHE", "${said}");`}
await listAdapters();
console.log([...seen].join(), Deno.env.get("__GL_SHADER_DISK_CACHE"));`,
      ["__GL_SHADER_DISK_CACHE"],
    );
    assertEquals([code, out, err], [0, `${seen} ${said}\n`, ""]);
  });
}

Deno.test({
  name: "Dawn polls by a timer, and setImmediate stays everybody's",
  ignore: dawnAddon() === undefined,
  fn: async () => {
    // Dawn's null backend computes nothing, but needs no adapter.
    const { code, out, err } = await runScript(
      `import { loadDawn } from "${GPU}native/dawn_addon.ts";
let [immediates, timers] = [0, 0];
const { setImmediate: immediately, setTimeout: later } = globalThis;
const counting = (...args) => (immediates++, immediately(...args));
globalThis.setImmediate = counting;
globalThis.setTimeout = (...args) => (timers++, later(...args));
const gpu = loadDawn().create(["backend=null"]);
const device = await (await gpu.requestAdapter()).requestDevice();
const waits = [];
const check = (wait) => (waits.push(wait), globalThis.setImmediate === counting);
const buffer = device.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
const stays = [check(buffer.mapAsync(GPUMapMode.READ)), check(device.queue.onSubmittedWorkDone())];
device.pushErrorScope("validation");
stays.push(check(device.popErrorScope()));
await Promise.all(waits);
const own = await new Promise((resolve) => setImmediate(resolve, "own"));
console.log(stays.every(Boolean), globalThis.setImmediate === counting, immediates, timers > 0, own);`,
      [],
    );
    assertEquals([code, out, err], [0, "true true 1 true own\n", ""]);
  },
});
