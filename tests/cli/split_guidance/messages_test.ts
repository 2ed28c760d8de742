/** What goes over the wire between the two processes, with a helper that computes nothing. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { OutOfMemoryError, TilereelError } from "../../../gpu/common/errors.ts";
import { lineOf } from "../../../tools/program/command_line.ts";
import type { Hello } from "../../../cli/split_guidance/hello.ts";
import { whyOther } from "../../../cli/split_guidance/hello.ts";
import { AssistantLink, type LinkOptions } from "../../../cli/split_guidance/link.ts";
import { framesOf, MessageReader } from "../../../cli/split_guidance/message.ts";
import { serveAssistant } from "../../../cli/split_guidance/server.ts";
import type { Helper } from "../../../cli/split_guidance/session.ts";
import type { FamilyModel } from "../../../model/family.ts";
import { PartnerLostError, type SplitClip } from "../../../model/split_guidance/partner.ts";
import { WAN } from "../../../model/wan/family.ts";

const HELLO: Hello = {
  ...{ tilereel: "1", family: "Wan", precision: "f32", adapter: "a (deno)" },
  ...{ model: { modelDigest: "d" }, kernels: { all: "plain", gemm: "x" } },
};
const MODEL: Pick<FamilyModel, "family" | "latentShape" | "textDim" | "pooledDim"> = {
  ...{ family: WAN, textDim: 3 },
  latentShape: ({ width, height, frames }) => [1, 2, (frames - 1) / 4 + 1, height / 8, width / 8],
};
const SHAPE = [1, 2, 2, 4, 2], NUMBERS = 32;
const CLIP: SplitClip = {
  ...{ size: { width: 16, height: 32, frames: 5 }, shape: SHAPE, lengths: [0, 0], timesteps: [1000, 500.5] },
  ...{ sigmas: [1, 1 / 3, 0], conditioning: { text: { data: Float32Array.of(1, 2, 3, 4, 5, 6), shape: [1, 2, 3] } } },
};
const METHODS = { attention: "veda", keep: 0.3, tile: [2, 4, 4] };
/** All bits count: no number, and those that are not equal to themselves or to another zero. */
const LATENTS = Float32Array.from({ length: NUMBERS }, (_, i) => [-0, NaN, Infinity, 1e-45, -3.3][i % 5]! * (1 + i));

/** An assistant that gives back what it is given, and what it was asked. */
async function withAssistant(
  run: (where: {
    link: (options?: Partial<LinkOptions>) => Promise<AssistantLink>;
    url: string;
    asked: unknown[];
    visits: string[];
  }) => Promise<void>,
  { token, ...helper }: Partial<Helper> & { readonly token?: string } = {},
): Promise<void> {
  const asked: unknown[] = [], visits: string[] = [];
  const server = serveAssistant({
    address: { hostname: "127.0.0.1", port: 0 },
    token,
    helper: {
      model: MODEL,
      hello: () => Promise.resolve(HELLO),
      begin: (request) => {
        asked.push(request);
        return Promise.resolve({
          velocity: (step, latents) => {
            asked.push(step);
            const spared = { steps: step, blocks: 2, attentions: 3 };
            return Promise.resolve({ velocity: latents, layers: [0, 2], ...step > 0 && { spared } });
          },
          [Symbol.dispose]: () => void asked.push("end"),
        });
      },
      failed: (error) => Promise.resolve(void asked.push(error)),
      ...helper,
    },
    onVisit: (event) => visits.push(event),
  });
  const address = { hostname: "127.0.0.1", port: server.addr.port };
  const links: AssistantLink[] = [];
  const link = async (options: Partial<LinkOptions> = {}) => {
    const made = await AssistantLink.open({ address, own: HELLO, ...options });
    links.push(made);
    return made;
  };
  try {
    await run({ link, url: `127.0.0.1:${server.addr.port}`, asked, visits });
  } finally {
    for (const made of links) made[Symbol.dispose]();
    await server.shutdown();
  }
}

function test(name: string, run: () => Promise<void>): void {
  // A socket that was refused is closed some moments later.
  Deno.test({ name, sanitizeOps: false, sanitizeResources: false, fn: run });
}

const bits = (numbers: Float32Array) => new Uint32Array(numbers.buffer, numbers.byteOffset, numbers.length);

test("clips and steps arrive as they were sent, to the bit, one clip after the other", () =>
  withAssistant(async ({ link, asked, visits }) => {
    const one = await link({ token: "is not asked for" });
    for (const first of [0, 1]) {
      asked.length = 0;
      const pass = await one.partner(METHODS).begin(CLIP);
      assertEquals(asked.filter((what) => what !== "end"), [{ clip: CLIP, methods: METHODS }]);
      // A clip that goes on from where it was begins with another step.
      for (let step = first; step < 2; step++) {
        const { velocity, layers, spared } = await pass.velocity(step, LATENTS);
        assertEquals(bits(velocity), bits(LATENTS));
        assertEquals([layers, spared], [[0, 2], step > 0 ? { steps: step, blocks: 2, attentions: 3 } : undefined]);
      }
      pass[Symbol.dispose]();
    }
    // A second process is told that there is a first.
    await assertRejects(() => link(), TilereelError, "refuses: it helps another process");
    one[Symbol.dispose]();
    while (!visits.includes("gone")) await new Promise((resolve) => setTimeout(resolve, 5));
    assertEquals(asked.at(-1), "end");
    await (await link()).partner(METHODS).begin(CLIP);
    assertEquals(visits, ["come", "gone", "come"]);
    // The first one's next clip is made without it.
    await assertRejects(() => one.partner(METHODS).begin(CLIP), PartnerLostError, "helps another process now");
  }));

test("an assistant that refuses ends the clip; one that fails or stalls is done without, and is asked again", async () => {
  let fails: Error | undefined = new TilereelError("it has another router");
  const begin = () =>
    fails ? Promise.reject(fails) : Promise.resolve({
      velocity: () => Promise.reject(new OutOfMemoryError("there is no room")),
      [Symbol.dispose]() {},
    });
  await withAssistant(async ({ link }) => {
    const partner = (await link()).partner(METHODS);
    await assertRejects(() => partner.begin(CLIP), TilereelError, "refuses: it has another router");
    for (
      const [error, why] of [
        [new OutOfMemoryError("there is no room"), "cannot go on (there is no room)"],
        [new TypeError("x"), "cannot go on (something went wrong there"],
      ] as const
    ) {
      fails = error;
      await assertRejects(() => partner.begin(CLIP), PartnerLostError, why);
    }
    fails = undefined;
    const pass = await partner.begin(CLIP);
    await assertRejects(() => pass.velocity(0, LATENTS), PartnerLostError, "cannot go on (there is no room)");
    await assertRejects(() => pass.velocity(1, LATENTS), PartnerLostError);
    pass[Symbol.dispose]();
    await partner.begin(CLIP);
  }, { begin });
  // A question that is not answered, and not waited for, closes the connection. The next clip makes a new one.
  let stalls = true, mistakes: unknown[] = [];
  const answered = { velocity: LATENTS, layers: [] };
  const stalling = () =>
    Promise.resolve({
      velocity: async () => {
        if (stalls) await new Promise((resolve) => setTimeout(resolve, 50));
        return answered;
      },
      [Symbol.dispose]() {},
    });
  await withAssistant(async ({ link, asked }) => {
    mistakes = asked;
    const partner = (await link()).partner(METHODS), pass = await partner.begin(CLIP);
    const answer = pass.velocity(0, LATENTS);
    pass[Symbol.dispose]();
    await assertRejects(() => answer, PartnerLostError);
    stalls = false;
    assertEquals((await (await partner.begin(CLIP)).velocity(0, LATENTS)).velocity.length, NUMBERS);
  }, { begin: stalling });
  assertEquals(mistakes, []);
});

test("an assistant that has gone is lost, for this clip and the next", async () => {
  let partner: ReturnType<AssistantLink["partner"]> | undefined;
  let end = () => {};
  await withAssistant(async ({ link }) => {
    const one = await link();
    end = () => one[Symbol.dispose]();
    partner = one.partner(METHODS);
    await partner.begin(CLIP);
  });
  end();
  await assertRejects(() => partner!.begin(CLIP), PartnerLostError, "is not there any more");
});

test("who comes without the secret, or is a page, is not let in; who sends garbage is told so once, and left", async () => {
  const token = "0123456789abcdef";
  await withAssistant(async ({ link, url, asked }) => {
    const status = async (headers: Record<string, string>) => {
      const answer = await fetch(`http://${url}/`, { headers });
      await answer.text();
      return answer.status;
    };
    const authorization = `Bearer ${token}`;
    assertEquals(
      [await status({}), await status({ authorization }), await status({ authorization, origin: "http://a.com" })],
      [401, 426, 403],
    );
    await assertRejects(() => link(), TilereelError, "asks for a secret");
    await assertRejects(() => link({ token: "0123456789abcdee" }), TilereelError, "has another secret");
    const text = (value: unknown) => JSON.stringify(value);
    const [clip] = framesOf({
      head: { kind: "clip", ...CLIP, numbers: {}, methods: METHODS },
      tensors: { text: CLIP.conditioning.text },
    });
    const { conditioning: _, ...fields } = { ...JSON.parse(clip as string) };
    const garbage: [unknown[], string][] = [
      [[new Uint8Array(10)], "JSON was expected"],
      [["{"], "could not be read"],
      [["[]"], "it is no object"],
      [["{}"], "it has no kind"],
      [["x".repeat(2 ** 20 + 1)], "it is too long"],
      [[text({ kind: "step", step: 0 })], "it is not one that was expected"],
      [[text({ kind: "clip" })], "it is no clip"],
      [[text({ ...fields, tensors: {} })], "its tensors are no short list"],
      [[text({ ...fields, tensors: [{ name: "text", shape: [2 ** 15, 2 ** 15] }] })], 'a tensor "text" has no shape'],
      [[text({ ...fields, tensors: [{ name: "text", shape: [1, 9999999, 3] }] })], "the text embeddings"],
      [[text({ ...fields, size: { width: 1e9, height: 1e9, frames: 5 } })], "the latents"],
      [[clip, new Uint8Array(25)], "25 bytes came where up to 24 were expected"],
      [[clip, "{}"], "numbers were expected"],
    ];
    for (const [frames, message] of garbage) {
      const socket = new WebSocket(`ws://${url}/`, { headers: { authorization } } as unknown as string[]);
      const received: string[] = [], closed = Promise.withResolvers<void>();
      socket.onmessage = ({ data }) => {
        received.push(data);
        if (received.length === 1) { for (const frame of frames) socket.send(frame as string); }
      };
      socket.onclose = () => closed.resolve();
      await closed.promise;
      const [hello, refused] = received.map((text) => JSON.parse(text));
      assertEquals([hello.kind, refused.kind, received.length], ["hello", "refused", 2], message);
      assert(refused.why.includes(message) && !/\n/.test(refused.why), refused.why);
    }
    assertEquals(asked, []);
    // And the next is served.
    await (await link({ token })).partner(METHODS).begin(CLIP);
  }, { token });
});

Deno.test("messages of any size are put together again, frame by frame", () => {
  const data = Float32Array.from({ length: 1e7 }, (_, i) => i), shapes: unknown[] = [];
  const reader = new MessageReader((head, asked) => shapes.push([head, asked]));
  const frames = framesOf({
    head: { kind: "a", b: 1 },
    tensors: { x: { data, shape: [5, 2e6] }, y: { data, shape: [1e7] } },
  });
  assertEquals(frames.length, 5);
  for (let round = 0; round < 2; round++) {
    const messages = frames.map((frame) => reader.push(typeof frame === "string" ? frame : frame.slice().buffer));
    assertEquals(messages.slice(0, -1), [undefined, undefined, undefined, undefined]);
    const { head, tensors } = messages.at(-1)!;
    assertEquals([head, Object.keys(tensors), tensors.x!.shape], [{ kind: "a", b: 1 }, ["x", "y"], [5, 2e6]]);
    assert(tensors.y!.data.every((value, i) => value === i));
  }
  assertEquals(shapes[0], [{ kind: "a", b: 1 }, { x: [5, 2e6], y: [1e7] }]);
  const twice = JSON.stringify({ kind: "a", tensors: [{ name: "x", shape: [1] }, { name: "x", shape: [1] }] });
  assertThrows(() => new MessageReader(() => {}).push(twice), TilereelError, "two of its tensors have one name");
});

Deno.test("an assistant that is another one is told apart", () => {
  const others: [Partial<Record<keyof Hello, unknown>>, string | undefined][] = [
    [{}, undefined],
    [{ adapter: "b" }, undefined],
    [{ tilereel: "2" }, 'is tilereel "2", and this is 1'],
    [{ family: "HunyuanVideo" }, "has another model"],
    [{ model: { modelDigest: "e" } }, "has another model"],
    [{ model: undefined }, "has another model"],
    [{ precision: "f16" }, 'computes in "f16", and this process in f32'],
    [{ kernels: { all: "plain", gemm: "y" } }, 'runs the kernel "y" for "gemm", and this process "x"'],
    [{ kernels: { all: "tiled", gemm: "x" } }, 'runs the kernel "tiled" for "all"'],
    [{ kernels: null }, 'runs the kernel nothing for "all"'],
  ];
  for (const [change, why] of others) {
    const said = whyOther({ ...HELLO, ...change }, HELLO);
    assert(why === undefined ? said === undefined : said?.startsWith(why), said);
  }
  // A name does not count where there is a digest.
  const named = (name: string) => ({
    ...HELLO,
    model: { transformer: name, transformerDigest: "d", modelDigest: "m" },
  });
  assertEquals(whyOther({ ...named("a.safetensors") }, named("b.safetensors")), undefined);
});

Deno.test("a command line that is shown again has no secret", () => {
  assertEquals(
    lineOf("generate", "--token", "abc", "--out", "x", "--token=def", "--seed", "7"),
    "tilereel generate --token SECRET --out x --token=SECRET --seed 7",
  );
});
