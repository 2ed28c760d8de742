import config from "../../deno.json" with { type: "json" };
import { requestOptions } from "../../tools/program/clip/batch_options.ts";
import { METHODS } from "../../tools/program/clip/method_options.ts";
import { withKeys } from "../../tools/program/clip/read_values.ts";
import type { Family } from "../../model/family.ts";
import type { ImageNeeds } from "../../model/pictures_of_clip.ts";
import type { Option } from "../../tools/program/options.ts";
import { type Served, TILE_MAP } from "./read_request.ts";

type Schema = Readonly<Record<string, unknown>>;

const TEXT = { type: "string" } as const,
  NUMBER = { type: "number" } as const,
  COUNT = { type: "integer", minimum: 0 } as const;
/** What clips have in common that differ in attention and caches alone. */
const SCENE = { description: "Equal for clips that differ in attention and caches alone.", type: "string" } as const;
/** Along frames, rows and columns. */
const GRID = { type: "array", items: COUNT, minItems: 3, maxItems: 3 } as const;
const NOTHING = { type: "null" } as const;
const NEED = { enum: ["required", "optional", "none"] } as const;
const ref = (name: string): Schema => ({ $ref: `#/components/schemas/${name}` });
const either = (...anyOf: readonly Schema[]): Schema => ({ anyOf });
const object = (
  properties: Readonly<Record<string, Schema>>,
  optional: Readonly<Record<string, Schema>> = {},
): Schema => ({
  type: "object",
  required: Object.keys(properties),
  properties: { ...properties, ...optional },
});

/** The description of the server in OpenAPI 3.1. What a request may say is the table of options that `generate` has. */
export function openApi({ model, defaults }: Served, { images }: Pick<Family, "images">): Schema {
  const id = { name: "id", in: "path", required: true, schema: TEXT };
  const json = (schema: Schema): Schema => ({ "application/json": { schema } });
  const answers = (description: string, content: Schema): Schema => ({
    200: { description, content },
    default: { description: "What was wrong, in one sentence.", content: json(ref("Error")) },
  });
  const query = (name: string, schema: Schema): Schema => ({ name, in: "query", schema });
  return {
    openapi: "3.1.0",
    info: {
      title: "tilereel",
      version: config.version,
      description: "Renders video from text, as OpenAI's Videos API does, on the GPU of this machine.",
    },
    paths: {
      "/v1/videos": {
        post: {
          operationId: "createVideo",
          summary: "Asks for a clip. It is made when those before it are done.",
          requestBody: {
            required: true,
            content: {
              "application/json": { schema: ref("CreateVideo") },
              "multipart/form-data": { schema: ref(images ? "CreateVideoOfPictures" : "CreateVideo") },
            },
          },
          responses: answers("The job.", json(ref("Video"))),
        },
        get: {
          operationId: "listVideos",
          summary: "Lists the jobs, the newest first.",
          parameters: [
            query("limit", { type: "integer", minimum: 1, maximum: 100, default: 20 }),
            query("after", TEXT),
            query("order", { enum: ["asc", "desc"], default: "desc" }),
            query("scene", TEXT),
          ],
          responses: answers("A page of jobs.", json(ref("VideoList"))),
        },
      },
      "/v1/videos/{id}": {
        parameters: [id],
        get: { operationId: "retrieveVideo", summary: "A job.", responses: answers("The job.", json(ref("Video"))) },
        delete: {
          operationId: "deleteVideo",
          summary: "Cancels a job that has not ended, and removes it with its clip.",
          responses: answers("It is gone.", json(ref("DeletedVideo"))),
        },
      },
      "/v1/videos/{id}/cancel": {
        parameters: [id],
        post: {
          operationId: "cancelVideo",
          summary: "Cancels a job and keeps it, as failed. One that runs ends within a step.",
          responses: answers("The job.", json(ref("Video"))),
        },
      },
      "/v1/videos/{id}/content": {
        parameters: [id, query("variant", { enum: ["video"], default: "video" })],
        get: {
          operationId: "downloadVideo",
          summary: "The clip. Its file says how it was made.",
          responses: answers("An MP4; also by ranges.", { "video/mp4": {} }),
        },
      },
      "/v1/videos/{id}/preview": {
        parameters: [id],
        get: {
          operationId: "previewVideo",
          summary: "The clip so far, as a contact sheet, while it is denoised.",
          responses: answers("A picture.", { "image/png": {} }),
        },
      },
      "/v1/videos/{id}/pictures/{name}": {
        parameters: [id, { name: "name", in: "path", required: true, schema: { enum: ["image", "last-image"] } }],
        get: {
          operationId: "pictureOfVideo",
          summary: "A picture that the video was made of.",
          responses: answers("The file that was sent.", { "image/*": {} }),
        },
      },
      "/v1/videos/{id}/events": {
        parameters: [id],
        get: {
          operationId: "watchVideo",
          summary: "Server-sent events: `video` with the job at every change until it has ended, or `deleted`.",
          responses: answers("Events.", { "text/event-stream": {} }),
        },
      },
      "/v1/videos/{id}/routes": {
        parameters: [id],
        get: {
          operationId: "routesOfVideo",
          summary: "The branch of every head, for a clip with VORTA: a digit a head, [steps][layers].",
          responses: answers("0 is full attention, 1 core-set, 2 sliding tile.", json(ref("Routes"))),
        },
      },
      "/v1/events": {
        get: {
          operationId: "watchVideos",
          summary:
            "Server-sent events about all videos until the reader goes: `waiting` with the ids of those that have " +
            "not ended, then `video` with a job, for each of these and at every change, or `deleted`.",
          responses: answers("Events.", { "text/event-stream": {} }),
        },
      },
      "/v1/trainings": {
        get: {
          operationId: "listTrainings",
          summary: "The trainings in the folders that the server was told of, the one that was written last first.",
          responses: answers("A list.", json(ref("TrainingList"))),
        },
      },
      "/v1/trainings/{id}/events": {
        parameters: [id],
        get: {
          operationId: "watchTraining",
          summary: "Server-sent events: `steps` with the figures of all steps, then with those of each new one.",
          responses: answers("Events with TrainingSteps.", { "text/event-stream": {} }),
        },
      },
      "/v1/videos/{id}/likeness": {
        parameters: [id, { ...query("to", TEXT), required: true }],
        get: {
          operationId: "compareVideos",
          summary: "How alike the files of two clips are, such as that of a sparse method and that of full attention.",
          responses: answers(
            "PSNR in dB, null where they are equal; SSIM, null for tiny pictures.",
            json(ref("Likeness")),
          ),
        },
      },
      "/v1/videos/{id}/tiles": {
        parameters: [id],
        get: {
          operationId: "tilesOfVideo",
          summary: "What a map of tiles holds, for a clip with Veda that was asked for with tile-map.",
          responses: answers("The steps and layers that were kept, counted from 0.", json(ref("Tiles"))),
        },
      },
      "/v1/videos/{id}/tiles/{step}/{layer}/{head}": {
        parameters: [id, ...["step", "layer", "head"].map((name) => ({ ...id, name, schema: COUNT }))],
        get: {
          operationId: "tileMaskOfVideo",
          summary: "Which tiles each tile looks at, in the first pass of a step.",
          responses: answers("A bit for each pair of tiles.", json(ref("TileMask"))),
        },
      },
      "/v1/estimates": {
        post: {
          operationId: "estimateVideo",
          summary: "What a clip would cost, and whether its settings can be used, without making it.",
          requestBody: { required: true, content: json(ref("CreateVideo")) },
          responses: answers("What is known of it; the rest is null.", json(ref("Estimate"))),
        },
      },
      "/v1/models": {
        get: {
          operationId: "listModels",
          summary: "The one model that this server has.",
          responses: answers("A list.", json(ref("ModelList"))),
        },
      },
      "/health": {
        get: {
          operationId: "health",
          summary: "Whether it answers, how many clips wait, and the GPU memory in bytes after the last one.",
          responses: answers("It does.", json(ref("Health"))),
        },
      },
    },
    components: {
      schemas: {
        CreateVideo: createVideo(model),
        ...images && { CreateVideoOfPictures: withPictures(createVideo(model), images) },
        Video: object({
          id: TEXT,
          object: { const: "video" },
          created_at: COUNT,
          completed_at: either(COUNT, NOTHING),
          expires_at: NOTHING,
          status: { enum: ["queued", "in_progress", "completed", "failed"] },
          model: { const: model },
          progress: { type: "integer", minimum: 0, maximum: 100 },
          size: { type: "string", pattern: "^\\d+x\\d+$" },
          seconds: TEXT,
          prompt: TEXT,
          error: either(object({ code: { enum: ["cancelled", "failed"] }, message: TEXT }), NOTHING),
          remixed_from_video_id: NOTHING,
          tilereel: object({ frames: COUNT, fps: NUMBER, seed: COUNT, values: { type: "object" }, scene: SCENE }, {
            ...{ stage: TEXT, done: NUMBER, total: NUMBER, preview: TEXT },
            ...{
              record: { type: "object" },
              bytes: COUNT,
              took: NUMBER,
              notes: { type: "array", items: TEXT },
              routed: { type: "boolean" },
              tiles: { type: "boolean" },
              pictures: object({ image: TEXT }, { "last-image": TEXT }),
            },
          }),
        }),
        VideoList: object({
          object: { const: "list" },
          data: { type: "array", items: ref("Video") },
          first_id: either(TEXT, NOTHING),
          last_id: either(TEXT, NOTHING),
          has_more: { type: "boolean" },
        }),
        DeletedVideo: object({ id: TEXT, object: { const: "video.deleted" }, deleted: { const: true } }),
        ModelList: object({ object: { const: "list" }, data: { type: "array", items: ref("Model") } }),
        Model: object({
          ...{ id: { const: model }, object: { const: "model" }, created: COUNT, owned_by: { const: "tilereel" } },
          defaults: { type: "object", default: defaults },
          pictures: object({ image: NEED, "last-image": NEED }),
        }),
        Routes: object({
          routes: { type: "array", items: { type: "array", items: { type: "string", pattern: "^[012]+$" } } },
        }),
        Likeness: object({ psnr: either(NUMBER, NOTHING), ssim: either(NUMBER, NOTHING) }),
        Tiles: object({
          ...{ grid: GRID, shapes: { type: "array", items: GRID }, heads: COUNT },
          ...{ steps: { type: "array", items: COUNT }, layers: { type: "array", items: COUNT } },
        }),
        TileMask: object({
          ...{ shape: GRID, counts: GRID },
          mask: {
            description:
              "In base64: for each query tile a row of whole bytes, with a bit for each key tile, the lowest first.",
            type: "string",
            contentEncoding: "base64",
          },
        }),
        Estimate: object({
          ...{ tokens: COUNT, grid: GRID },
          ...{ density: either({ ...NUMBER, minimum: 0 }, NOTHING), memory: either(COUNT, NOTHING) },
          ...{ obstacle: either(TEXT, NOTHING), seconds: either({ ...NUMBER, minimum: 0 }, NOTHING) },
          from: {
            description:
              "Where the seconds come from: equal clips that were made here, other clips, or the GPU's rates.",
            enum: ["equal", "clips", "gpu", null],
          },
          ...{ clips: COUNT, adapter: either(TEXT, NOTHING), precision: either(TEXT, NOTHING) },
        }),
        TrainingList: object({ object: { const: "list" }, data: { type: "array", items: ref("Training") } }),
        Training: object({
          ...{ id: TEXT, object: { const: "training" }, name: TEXT, updated_at: COUNT },
          ...{ state: { enum: ["running", "stopped", "done"] }, step: COUNT },
          ...{ steps: either(NUMBER, NOTHING), seconds_left: either(NUMBER, NOTHING) },
        }),
        TrainingSteps: object({
          begins: { type: "boolean", description: "Whether the steps take the place of all before." },
          steps: { type: "array", items: { ...object({ step: COUNT }), additionalProperties: NUMBER } },
          training: ref("Training"),
        }),
        Health: object({
          ...{ status: { const: "ok" }, version: TEXT, waiting: COUNT },
          gpu_memory: either(object({ used: COUNT, held: COUNT, peak: COUNT }), NOTHING),
        }),
        Error: object({
          error: object({ message: TEXT, type: TEXT, code: either(TEXT, NOTHING), param: either(TEXT, NOTHING) }),
        }),
      },
    },
  };
}

/** The keys of a request. Numbers may also be given as texts, as forms have them. */
function createVideo(model: string) {
  const options = Object.entries(requestOptions).map(([name, option]) => {
    const [method] = Object.entries(METHODS).find(([, { options }]) => Object.hasOwn(options, name)) ?? [];
    // The page must know what makes no other scene.
    return [name, { ...schemaOf(option), ...method !== undefined && { "x-method": method } }];
  });
  return {
    type: "object",
    required: ["prompt"],
    additionalProperties: false,
    properties: {
      ...Object.fromEntries(options),
      model: { const: model },
      seconds: { description: "The length, in place of frames.", ...either(TEXT, NUMBER) },
      [TILE_MAP]: {
        description: "For Veda: whether to keep which tiles each tile looks at.",
        ...either({ type: "boolean" }, { enum: ["true", "false"] }, NOTHING),
      },
    },
  };
}

/** A request with the pictures that a model takes. */
function withPictures(request: ReturnType<typeof createVideo>, { image, lastImage }: ImageNeeds): Schema {
  const file = (description: string) => ({ description, type: "string", contentMediaType: "image/*" });
  const first =
    "The picture that the clip begins with: a PNG, JPEG, WebP or GIF. It is scaled and cropped to its size.";
  return {
    ...request,
    required: [...request.required, ...image === "required" ? ["input_reference"] : []],
    properties: {
      ...request.properties,
      ...image !== "none" && { input_reference: file(first) },
      ...lastImage !== "none" && { last_image: file("The picture that the clip ends with.") },
    },
  };
}

function schemaOf({ kind, help, choices, min, above, max, default: usual }: Option<unknown>): Schema {
  const about = { description: withKeys(help, requestOptions), ...typeof usual === "number" && { default: usual } };
  if (kind === "choice") return { ...about, enum: [...choices!, null] };
  if (kind !== "number" && kind !== "integer") {
    return {
      ...about,
      ...either(TEXT, NOTHING, ...kind === "notation" ? [NUMBER, { type: "array", items: NUMBER }] : []),
    };
  }
  const range = {
    ...min !== undefined && { minimum: min },
    ...above !== undefined && { exclusiveMinimum: above },
    ...max !== undefined && { maximum: max },
  };
  return { ...about, ...either({ type: kind, ...range }, TEXT, NOTHING) };
}
