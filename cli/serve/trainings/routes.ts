import { Hono } from "hono";
import { quoted } from "../../../gpu/common/errors.ts";
import { eventStream } from "../event_stream.ts";
import { RequestError } from "../request_error.ts";
import { type Figures, LogReader } from "./log_reader.ts";
import { trainingObject, type TrainingRun, type TrainingRuns } from "./training_runs.ts";

/** Time between two looks at a log that is watched, in ms. */
const LOOK_EVERY = 1000;
/** Of more steps, some are left out: a screen has no more columns. */
const MOST_POINTS = 4000;

/** A list of trainings, and the figures of each while it runs, whoever started it. */
export function trainingRoutes(runs: TrainingRuns): Hono {
  const app = new Hono();
  app.get("/", async (context) => {
    const data = (await Promise.all((await runs.list()).map(trainingObject))).filter((run) => run !== undefined);
    return context.json({ object: "list", data: data.sort((a, b) => b.updated_at - a.updated_at) });
  });
  app.get("/:id/events", async (context) => {
    const id = context.req.param("id"), run = await runs.find(id);
    if (!run) throw new RequestError(404, `there is no training ${quoted(id)}`, "not_found", "id");
    return follow(run);
  });
  return app;
}

/** The figures of all steps, then those of each new one. */
function follow(run: TrainingRun): Response {
  return eventStream((send, end, gone) => {
    const log = new LogReader(run.log);
    let state: string | undefined;
    const look = async () => {
      const news = await log.read(), training = await trainingObject(run);
      if (!news || !training) return end();
      const { begins, steps } = news;
      if (begins || steps.length > 0 || training.state !== state) {
        send("steps", { begins, steps: thinned(steps), training });
      }
      state = training.state;
      if (!gone.aborted) setTimeout(() => look().catch(end), LOOK_EVERY);
    };
    look().catch(end);
  });
}

/** Steps with even gaps, and the last one. */
function thinned(steps: readonly Figures[]): readonly Figures[] {
  const gap = Math.ceil(steps.length / MOST_POINTS);
  return steps.filter((_, i) => (steps.length - 1 - i) % gap === 0);
}
