import { type Context, Hono } from "hono";
import { quoted } from "../../gpu/common/errors.ts";
import { TileMap } from "../../model/veda/tile_map.ts";
import { isNotFound } from "../../model/files/file_error.ts";
import type { Clip } from "../generate/clip_plan.ts";
import { fileAnswer } from "../../tools/program/file_answer.ts";
import type { PlanningModel } from "../generate/plan.ts";
import { eventStream, type Send } from "./event_stream.ts";
import { hasEnded, ID, type Job, newId } from "./job.ts";
import type { JobStore } from "./job_store.ts";
import { aboutPicture, mostPictureBytes, pictureType, takePictures } from "./pictures.ts";
import type { Queue } from "./queue.ts";
import { asksForTileMap, readBody, readClip, type Served, TILE_MAP } from "./read_request.ts";
import { RequestError } from "./request_error.ts";
import type { SideWork } from "./side_work.ts";
import { sceneOf } from "./scene.ts";
import { videoObject } from "./video_object.ts";

/** The most jobs of a page of the list. */
const LONGEST_PAGE = 100;
/** What a page has if the request does not say. */
const USUAL_PAGE = 20;
/** The most jobs that may wait. */
const LONGEST_QUEUE = 1000;

/** What the routes work with. */
export interface VideoRoutes {
  readonly store: JobStore;
  readonly queue: Queue;
  readonly side: SideWork;
  readonly planning: PlanningModel;
  readonly served: Served;
  /** Refuses a clip that is too large for the server. */
  readonly checkSize: (clip: { readonly width: number; readonly height: number; readonly frames: number }) => void;
}

/** OpenAI's Videos API, and beside it progress as server-sent events, previews, and cancelling without deleting. */
export function videoRoutes({ store, queue, side, planning, served, checkSize }: VideoRoutes): Hono {
  const app = new Hono(), object = (job: Job) => videoObject(job, served.model, queue.running(job.id));
  const jobOf = (context: Context): Job => {
    const id = context.req.param("id") ?? "", job = ID.test(id) ? store.get(id) : undefined;
    if (!job) throw new RequestError(404, `there is no video ${quoted(id)}`, "not_found", "id");
    return job;
  };

  const tileMapOf = async ({ id, tiles }: Job): Promise<TileMap> => {
    if (!tiles) throw new RequestError(404, "there is no map of this video's tiles", "no_tiles");
    return await TileMap.open(store.tileMapPath(id));
  };

  const readyJob = async (id: string, clip: Clip, tileMap: boolean): Promise<Job> => {
    const { defaults } = served, pixels = defaults.width * defaults.height;
    // Pictures take long to decode, and the server has one thread for all who ask.
    const hasPictures = clip.values.image !== undefined || clip.values["last-image"] !== undefined;
    const planned = hasPictures ? await side.plan({ clip, pixels }) : await planning.ready(clip, { pixels });
    const { settings: { width, height, frames, fps }, record } = planned;
    checkSize({ width, height, frames });
    if (tileMap && record.attention !== "veda" && record.fullBranch !== "veda") {
      const why =
        `"${TILE_MAP}" needs tiles, but "attention" ${record.attention} selects none: use veda, or leave it out`;
      throw new RequestError(400, why, null, TILE_MAP);
    }
    const sized = { ...clip, values: { ...clip.values, size: { width, height } } }, created = Date.now() / 1000;
    return {
      ...{ id, created, clip: sized, width, height, frames, fps, status: "queued", scene: sceneOf(record) },
      ...tileMap && { tileMap },
    };
  };

  app.post("/", async (context) => {
    if (store.waiting >= LONGEST_QUEUE) {
      throw new RequestError(409, `${LONGEST_QUEUE} videos are waiting: ask again when some are done`, "queue_full");
    }
    const id = newId(), { family } = planning.model;
    const body = await readBody(context.req.raw, { pictures: mostPictureBytes(family) });
    const { fields, pictures } = await takePictures(body, family);
    const { size: _, ...values } = served.values, isShaped = pictures.image && fields.size === undefined;
    // A clip has the proportions of its picture, unless the request names another size.
    const asked = readClip(fields, isShaped ? { ...served, values } : served, store.clipPath(id));
    const paths = await store.putPictures(id, pictures);
    const clip = { ...asked, values: { ...asked.values, ...paths } };
    const job = await readyJob(id, clip, asksForTileMap(body)).catch(async (error) => {
      await store.remove(id);
      throw aboutPicture(error, paths, pictures);
    });
    await queue.add(job);
    return context.json(object(store.get(id) ?? job));
  });

  app.get("/", (context) => {
    const { limit: asked, after, order = "desc", scene } = context.req.query();
    const limit = asked === undefined ? USUAL_PAGE : Number(asked);
    if (!Number.isInteger(limit) || limit < 1 || limit > LONGEST_PAGE) {
      throw new RequestError(400, `"limit" must be a whole number from 1 to ${LONGEST_PAGE}`, null, "limit");
    }
    if (order !== "asc" && order !== "desc") throw new RequestError(400, '"order" must be asc or desc', null, "order");
    const listed = scene === undefined ? store.all : store.all.filter((job) => job.scene === scene);
    const all = order === "asc" ? listed : listed.toReversed();
    const from = after === undefined ? 0 : all.findIndex(({ id }) => id === after) + 1;
    if (after !== undefined && from === 0) {
      throw new RequestError(404, `there is no video ${quoted(after)}`, null, "after");
    }
    const data = all.slice(from, from + limit).map(object);
    return context.json({
      ...{ object: "list", data, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null },
      has_more: from + limit < all.length,
    });
  });

  app.get("/:id", (context) => context.json(object(jobOf(context))));

  app.delete("/:id", async (context) => {
    const { id } = jobOf(context);
    await queue.remove(id);
    return context.json({ id, object: "video.deleted", deleted: true });
  });

  app.post("/:id/cancel", async (context) => {
    const { id } = jobOf(context);
    await queue.cancel(id);
    return context.json(object(jobOf(context)));
  });

  app.get("/:id/content", async (context) => {
    const job = jobOf(context), variant = context.req.query("variant") ?? "video";
    if (variant !== "video") {
      throw new RequestError(400, `there is no variant ${quoted(variant)}: use video`, null, "variant");
    }
    if (job.status !== "completed") {
      throw new RequestError(409, `the video is ${job.status.replace("_", " ")}: it has no content`, "not_ready");
    }
    const file = await Deno.open(store.clipPath(job.id)).catch((error) => {
      if (isNotFound(error)) throw new RequestError(404, "the file of this video was removed", "not_found");
      throw error;
    });
    return await fileAnswer(file, context.req.header("range"), "video/mp4");
  });

  app.get("/:id/preview", (context) => {
    const { preview } = queue.running(jobOf(context).id) ?? {};
    if (!preview) throw new RequestError(404, "there is no preview of this video now", "no_preview");
    return context.body(preview, 200, { "content-type": "image/png", "cache-control": "no-store" });
  });

  app.get("/:id/pictures/:name", async (context) => {
    const { values } = jobOf(context).clip, name = context.req.param("name");
    const path = name === "image" || name === "last-image" ? values[name] : undefined;
    const file = path === undefined ? undefined : await Deno.open(path).catch(() => undefined);
    if (!file) throw new RequestError(404, `the video was made without a picture ${quoted(name)}`, "not_found");
    return await fileAnswer(file, undefined, pictureType(path!));
  });

  app.get("/:id/routes", (context) => {
    const { routes } = jobOf(context);
    if (!routes) throw new RequestError(404, "the heads of this video were not routed", "no_routes");
    return context.json({ routes });
  });

  app.get("/:id/likeness", async (context) => {
    const job = jobOf(context), to = context.req.query("to") ?? "", other = ID.test(to) ? store.get(to) : undefined;
    if (!other) throw new RequestError(404, `there is no video ${quoted(to)}: name one with "to"`, "not_found", "to");
    for (const { id, status } of [job, other]) {
      if (status !== "completed") {
        throw new RequestError(409, `the video ${id} is ${status}: it has no content`, "not_ready");
      }
    }
    const { width, height, frames, fps } = job, shape = { width, height, frames, fps };
    if (other.width !== width || other.height !== height || other.frames !== frames || other.fps !== fps) {
      throw new RequestError(409, "the videos differ in their size or length, so they cannot be compared", null, "to");
    }
    return context.json(await side.likeness({ paths: [store.clipPath(job.id), store.clipPath(to)], shape }));
  });

  app.get("/:id/tiles", async (context) => {
    using map = await tileMapOf(jobOf(context));
    return context.json(map.contents);
  });

  app.get("/:id/tiles/:step/:layer/:head", async (context) => {
    using map = await tileMapOf(jobOf(context));
    const { step, layer, head } = context.req.param();
    const [atStep, atLayer, atHead] = [step, layer, head].map(Number) as [number, number, number];
    const mask = await map.mask(atStep, atLayer, atHead);
    if (!mask) {
      throw new RequestError(404, "there are no tiles at this step, layer and head: it looked at all, or was not kept");
    }
    const { bits, ...of } = mask;
    return context.json({ ...of, mask: bits.toBase64() });
  });

  app.get("/:id/events", (context) => {
    const { id } = jobOf(context);
    return eventStream((send, end, gone) => {
      const tell = (of: string, job: Job | undefined) => {
        if (of !== id) return;
        sendVideo(send, id, job && object(job));
        if (!job || hasEnded(job)) end();
      };
      queue.listen(tell, gone);
      tell(id, store.get(id));
    });
  });

  return app;
}

/** Every change of every video, as server-sent events. First come those that have not ended, and their ids. */
export function eventsRoute({ store, queue, served }: VideoRoutes): () => Response {
  const object = (job: Job) => videoObject(job, served.model, queue.running(job.id));
  return () =>
    eventStream((send, _, gone) => {
      const waiting = store.all.filter((job) => !hasEnded(job));
      send("waiting", { ids: waiting.map(({ id }) => id) });
      for (const job of waiting) sendVideo(send, job.id, object(job));
      queue.listen((id, job) => sendVideo(send, id, job && object(job)), gone);
    });
}

function sendVideo(send: Send, id: string, video: ReturnType<typeof videoObject> | undefined): void {
  send(video ? "video" : "deleted", video ?? { id, object: "video.deleted", deleted: true });
}
