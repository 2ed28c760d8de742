import { Hono } from "hono";
import config from "../../deno.json" with { type: "json" };
import { type Door, guard } from "./guard.ts";
import { newId } from "./job.ts";
import { openApi } from "./openapi.ts";
import { readClip } from "./read_request.ts";
import { errorAnswer, RequestError } from "./request_error.ts";
import { PAGE_HEADERS, studioFiles } from "./studio.ts";
import { estimateRoute } from "./estimate.ts";
import { trainingRoutes } from "./trainings/routes.ts";
import type { TrainingRuns } from "./trainings/training_runs.ts";
import { eventsRoute, type VideoRoutes, videoRoutes } from "./videos.ts";

/** All routes of the server. */
export function serveApp(
  door: Omit<Door, "isPublic">,
  routes: VideoRoutes & { readonly trainings: TrainingRuns },
  onBug: (error: unknown) => void,
): Hono {
  const app = new Hono(), { served } = routes, created = Math.floor(Date.now() / 1000);
  const files = studioFiles();
  app.use(guard({ ...door, isPublic: (path) => files.has(path) }));
  for (const [path, { type, read }] of files) {
    app.get(path, async (context) => context.body(await read(), 200, { "content-type": type, ...PAGE_HEADERS }));
  }
  app.route("/v1/videos", videoRoutes(routes));
  app.route("/v1/trainings", trainingRoutes(routes.trainings));
  app.get("/v1/events", eventsRoute(routes));
  const estimate = estimateRoute(routes);
  app.post("/v1/estimates", (context) => estimate(context.req.raw));
  const { images: { image = "none", lastImage = "none" } = {} } = routes.planning.model.family;
  const model = {
    ...{ id: served.model, object: "model", created, owned_by: "tilereel" },
    pictures: { image, "last-image": lastImage },
  };
  app.get("/v1/models", async (context) => {
    const data = [{ ...model, defaults: { ...served.defaults, ...await usualAttention(routes) } }];
    return context.json({ object: "list", data });
  });
  app.get("/health", (context) =>
    context.json({
      ...{ status: "ok", version: config.version, waiting: routes.store.waiting },
      gpu_memory: routes.queue.memory ?? null,
    }));
  app.get("/openapi.json", (context) => context.json(openApi(served, routes.planning.model.family)));
  app.notFound((context) => {
    const { status, body } = errorAnswer(
      new RequestError(404, "there is nothing at this address: /openapi.json describes what is", "not_found"),
    );
    return context.json(body, status as 404);
  });
  app.onError((error, context) => {
    const { status, body } = errorAnswer(error);
    if (status === 500) onBug(error);
    return context.json(body, status);
  });
  return app;
}

/** The attention of a clip that names none: the server's own, or what the model needs. Nothing if it cannot be used. */
async function usualAttention({ planning, served, store }: VideoRoutes): Promise<Readonly<Record<string, unknown>>> {
  const clip = readClip({ prompt: "any" }, served, store.clipPath(newId()));
  // What is wrong with it is said to who asks for a clip.
  const { attention, fullBranch } = (await planning.ready(clip, { pictures: false }).catch(() => undefined))?.record ??
    {};
  return { ...attention !== undefined && { attention }, ...fullBranch !== undefined && { fullBranch } };
}
