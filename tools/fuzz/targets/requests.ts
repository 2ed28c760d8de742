import { takePictures } from "../../../cli/serve/pictures.ts";
import { readBody, readClip } from "../../../cli/serve/read_request.ts";
import { errorAnswer } from "../../../cli/serve/request_error.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { whyUnclear } from "../classify.ts";
import { fixture } from "../fixtures.ts";
import { joined, mutateBytes } from "../mutate_bytes.ts";
import { mutateJson } from "../mutate_json.ts";
import type { FuzzTarget } from "../target.ts";

const REQUEST = {
  model: "demo",
  prompt: "a cat",
  seconds: "4",
  size: "832x480",
  seed: 7,
  attention: "veda",
  keep: 0.3,
};
const FORM = "prompt=a+cat&seconds=4&size=832x480";
const MULTIPART = '--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na cat\r\n' +
  '--x\r\nContent-Disposition: form-data; name="input_reference"; filename="a"\r\n\r\nGIF89a\r\n--x--\r\n';
const PICTURES = "tests/fixtures/tiny_wan_a14b_pipeline";
const DEFAULTS = { width: 832, height: 480, frames: 81, fps: 16, steps: 50, guidance: 5, textTokens: 512 };

/** Reads a request as the server does. A refusal becomes what the client is told. */
async function read(type: string, body: BodyInit): Promise<void> {
  const request = new Request("http://localhost/", { method: "POST", headers: { "content-type": type }, body });
  try {
    const served = { model: "demo", defaults: DEFAULTS, multiples: { side: 16, frames: 4 }, values: {} };
    const images = { image: "optional", lastImage: "optional" } as const;
    const { fields } = await takePictures(await readBody(request, { pictures: 1e6 }), { name: "demo", images });
    readClip(fields, served, "out.mp4");
  } catch (error) {
    const { status, body: { error: { message } } } = errorAnswer(error);
    if (status === 500) throw error;
    const why = whyUnclear(message);
    throw why === undefined ? new TilereelError(message) : new Error(`${why}: ${message}`);
  }
}

const bytesOf = (text: string) => new TextEncoder().encode(text);

/** A form with a prompt and pictures, which come first. */
function formOf(pictures: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const parts = pictures.flatMap((bytes, i) => {
    const name = ["input_reference", "last_image"][i]!, file = `name="${name}"; filename="${i}.png"`;
    const head = `Content-Disposition: form-data; ${file}\r\nContent-Type: image/png`;
    return [bytesOf(`--x\r\n${head}\r\n\r\n`), bytes, bytesOf("\r\n")];
  });
  return joined(...parts, bytesOf('--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na cat\r\n--x--\r\n'));
}

export const requests: FuzzTarget = {
  reads: "requests to the server",
  open: async () => {
    const pictures = await Promise.all(["first", "last"].map((name) => fixture(`${PICTURES}/${name}.png`)));
    const forms = [bytesOf(MULTIPART), formOf(pictures.slice(0, 1)), formOf(pictures)];
    return async (dice) => {
      const kind = dice.below(6);
      if (kind === 0) await read("application/x-www-form-urlencoded", mutateBytes(bytesOf(FORM), dice));
      else if (kind === 1) await read("multipart/form-data; boundary=x", mutateBytes(dice.of(forms), dice));
      else await read(dice.once(20) ? "text/\u00ff" : "application/json", mutateJson(REQUEST, dice));
    };
  },
  extremes: {
    "2 MB of brackets": () => read("application/json", "[".repeat(2e6)),
    "a body nested 100,000 deep": () => read("application/json", `{"prompt":${"[".repeat(1e5)}${"]".repeat(1e5)}}`),
    "a key that moves the cursor": () => read("application/json", '{"prompt":"a","\\u001b[2J\\u0007":1}'),
    "a key of 900 kB": () => read("application/json", `{"prompt":"a","${"x".repeat(9e5)}":1}`),
    "a size of 900 kB": () => read("application/json", `{"prompt":"a","size":"${"9".repeat(9e5)}"}`),
    "a key of control characters": () => read("application/json", `{"prompt":"a","${"\\u0017".repeat(100)}":1}`),
    "a type of 10 kB": () => read("x".repeat(1e4), "a"),
  },
};
