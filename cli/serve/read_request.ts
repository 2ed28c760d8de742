import { isJsonObject } from "../../model/checkpoint/json.ts";
import { parseJson } from "../../model/checkpoint/parse_json.ts";
import { cut, printable, quoted, TilereelError } from "../../gpu/common/errors.ts";
import type { GenerationDefaults } from "../../model/checkpoint/generation_defaults.ts";
import type { ClipMultiples } from "../../model/video_size.ts";
import { type BatchValues, overlaid, requestOptions } from "../../tools/program/clip/batch_options.ts";
import { checkPrompt, seedOf } from "../../tools/program/clip/clip_settings.ts";
import { readValues } from "../../tools/program/clip/read_values.ts";
import type { Clip } from "../generate/clip_plan.ts";
import { RequestError } from "./request_error.ts";

/** What a request is read for. */
export interface Served {
  /** The name of the model. */
  readonly model: string;
  readonly defaults: GenerationDefaults;
  readonly multiples: ClipMultiples;
  /** The values of the server's own command line, which those of a request take precedence over. */
  readonly values: BatchValues;
}

/** The longest request without pictures: a prompt and its settings. */
const LONGEST_BODY = 1 << 20;
/** Who sends nothing for so long, in ms, is not waited for. */
const PATIENCE = 30_000;

/** Keys of OpenAI's API that are no options of a clip. */
const OPENAI_KEYS = ["model", "seconds"] as const;

/** How much a request may ask of the server before it is read. */
export interface BodyLimits {
  /** The bytes that pictures in a form may have. */
  readonly pictures?: number;
  /** How long, in ms, the next bytes may take. */
  readonly patience?: number;
}

/** The key that asks for a map of tiles. */
export const TILE_MAP = "tile-map";

/** Keys of a request that are read here. */
const OWN_KEYS: readonly string[] = [...OPENAI_KEYS, TILE_MAP];

/**
 * Whether a request asks for which tiles its heads select.
 *
 * @throws {RequestError} if it says neither yes nor no
 */
export function asksForTileMap({ [TILE_MAP]: asked }: Readonly<Record<string, unknown>>): boolean {
  if (asked === undefined || asked === null || asked === false || asked === "false" || asked === "") return false;
  if (asked === true || asked === "true") return true;
  throw new RequestError(400, `"${TILE_MAP}" must be true or false`, null, TILE_MAP);
}

/**
 * The body of a request as an object: of JSON, or of a form, whose values are texts and files.
 *
 * @throws {RequestError} if it is neither, too large or too slow
 */
export async function readBody(
  request: Request,
  { pictures = 0, patience = PATIENCE }: BodyLimits = {},
): Promise<Readonly<Record<string, unknown>>> {
  const type = request.headers.get("content-type") ?? "";
  if (/^application\/json\b/i.test(type)) {
    const body = asJson(new TextDecoder().decode(await bytesOf(request, LONGEST_BODY, patience)));
    if (!isJsonObject(body)) throw new RequestError(400, 'the request must be a JSON object, with the key "prompt"');
    return body;
  }
  if (/^(multipart\/form-data|application\/x-www-form-urlencoded)\b/i.test(type)) {
    const bytes = await bytesOf(request, LONGEST_BODY + pictures, patience);
    const form = await new Response(bytes, { headers: { "content-type": type } }).formData().catch(
      () => {
        throw new RequestError(400, "the request is not a complete form: send it again");
      },
    );
    return Object.fromEntries(form);
  }
  throw new RequestError(415, `the request has the type ${quoted(type)}, but application/json was expected`);
}

/** @throws {RequestError} if there are more than `most`, or the next do not come */
async function bytesOf(request: Request, most: number, patience: number): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array<ArrayBuffer>[] = [], reader = request.body?.getReader();
  let length = 0;
  try {
    for (;;) {
      const { value } = await inTime(reader?.read(), patience) ?? {};
      if (!value) return new Uint8Array(await new Blob(chunks).arrayBuffer());
      length += value.length;
      if (length > most) throw new RequestError(413, `a request may have ${most} bytes at most`, "too_large");
      chunks.push(value);
    }
  } finally {
    // What else is sent is not read.
    reader?.cancel().catch(() => {});
  }
}

async function inTime<T>(work: Promise<T> | undefined, patience: number): Promise<T | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    const why = `nothing of the request came for ${patience / 1000} s: send it again`;
    timer = setTimeout(() => reject(new RequestError(408, why, "too_slow")), patience);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

function asJson(text: string): unknown {
  try {
    return parseJson(text);
  } catch (error) {
    throw new RequestError(400, `the request is not JSON: ${printable(cut((error as Error).message, 120))}`);
  }
}

/**
 * The clip that a request asks for.
 *
 * @param out where it is written
 * @throws {RequestError} or {TilereelError} if a key or value is not one that a clip has
 */
export function readClip(
  body: Readonly<Record<string, unknown>>,
  { model, defaults, multiples, values: own }: Served,
  out: string,
): Clip {
  const openAi = Object.fromEntries(OPENAI_KEYS.map((key) => [key, body[key] ?? undefined]));
  if (openAi.model !== undefined && openAi.model !== model) {
    const name = typeof openAi.model === "string" ? quoted(openAi.model) : "another";
    throw new RequestError(404, `this server has the model ${quoted(model)}, not ${name}`, "model_not_found", "model");
  }
  const asked = Object.fromEntries(Object.entries(body).filter(([key]) => !OWN_KEYS.includes(key)));
  const { prompt, ...values } = readValues(asked, requestOptions, "the request");
  if (openAi.seconds !== undefined) {
    if (values.frames !== undefined) {
      throw new RequestError(400, 'give either "seconds" or "frames", not both', null, "seconds");
    }
    values.frames = framesOf(openAi.seconds, values.fps ?? own.fps ?? defaults.fps, multiples.frames);
  }
  const all = overlaid(own, values);
  return { prompt: checkPrompt(prompt), seed: seedOf(all), values: all, out, taken: "replace" };
}

/** The number of frames that is closest to a time, of those that the model makes. */
function framesOf(seconds: unknown, fps: number, multiple: number): number {
  const number = typeof seconds === "string" && seconds.trim() !== "" ? Number(seconds) : seconds;
  if (typeof number !== "number" || !(number > 0 && number <= 3600)) {
    throw new TilereelError('the request: "seconds" must be a number above 0 and at most 3600', { option: "seconds" });
  }
  return Math.round((number * fps - 1) / multiple) * multiple + 1;
}
