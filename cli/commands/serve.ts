import { TilereelError } from "../../gpu/common/errors.ts";
import { removeUnfinishedIn } from "../../gpu/native/replace_file.ts";
import { folderAt } from "../../model/files/disk.ts";
import { batchOptions } from "../../tools/program/clip/batch_options.ts";
import { sceneOptions } from "../../tools/program/clip/clip_options.ts";
import { methodOptions } from "../../tools/program/clip/method_options.ts";
import { EMBEDDED } from "../../tools/program/clip/record.ts";
import { defineCommand } from "../../tools/program/command.ts";
import { modelOptions } from "../../tools/program/model_options.ts";
import { inGroup, integer, many, type OptionValues, path, text } from "../../tools/program/options.ts";
import { Farewell } from "../../tools/program/signals.ts";
import { addressText } from "../address.ts";
import { PlanningModel } from "../generate/plan.ts";
import { DEFAULT_HOST, DEFAULT_PORT } from "../serve/address.ts";
import { serveApp } from "../serve/app.ts";
import { JobStore } from "../serve/job_store.ts";
import { Queue } from "../serve/queue.ts";
import { SideWork } from "../serve/side_work.ts";
import { TrainingRuns } from "../serve/trainings/training_runs.ts";
import { LOOPBACK, serverTokenOf, tokenOption } from "../token.ts";

const options = {
  ...inGroup("Server", {
    out: path({ short: "o", value: "DIR", help: "Folder of the jobs and their clips.", default: "out/served" }),
    training: many(path({
      value: "DIR",
      help:
        "Folder of a training, or of folders of trainings, whose figures the studio shows. Can be given several times.",
      default: "out",
    })),
    port: integer({ help: "The port. 0 takes one that is free.", default: DEFAULT_PORT, min: 0, max: 65535 }),
    host: text({
      value: "HOST",
      help: "The name or address to listen at. Other machines can reach all but loopback ones, so these need --token.",
      default: DEFAULT_HOST,
    }),
    token: tokenOption("A secret of at least 16 characters that every request must send, as a bearer token."),
  }),
  ...modelOptions,
  ...inGroup("Largest clip", { size: sceneOptions.size, frames: sceneOptions.frames }),
  ...methodOptions,
};

type ServeValues = OptionValues<typeof options>;

/** `tilereel serve`: the studio, and an API for other programs. */
export const command = defineCommand({
  name: "tilereel serve",
  description:
    "Renders clips that a page in the browser (the studio) or other programs ask for. Programs use OpenAI's Videos API: " +
    "POST /v1/videos, and so on. /openapi.json describes all of it.",
  options,
  notes: "Jobs and clips are kept in one folder. If the server ends, it goes on with them when it is started again. " +
    "--size and --frames are the largest clip that may be asked for; by default it is the model's own. Attention and " +
    "cache options are the defaults of clips.",
  examples: {
    "tilereel serve": `Serves the embedded demo model at http://${DEFAULT_HOST}:${DEFAULT_PORT}.`,
    "tilereel serve --model wan-1.3b --gpu dawn --memory 12GB --size 832x480 --frames 81": "Serves Wan.",
  },
  run,
});

async function run(values: ServeValues): Promise<number> {
  const {
    port = DEFAULT_PORT,
    host = DEFAULT_HOST,
    token: given,
    out = "out/served",
    training = ["out"],
    size,
    frames,
    ...rest
  } = values;
  const token = serverTokenOf(given, host, "--host");
  using planning = await PlanningModel.open(rest);
  const { defaults: own, family: { multiples } } = planning.model;
  // The largest clip is also what a request gets that names no size.
  const defaults = { ...own, ...size, ...frames !== undefined && { frames } };
  const clipValues = Object.fromEntries(
    Object.entries(rest).filter(([name]) => Object.hasOwn(methodOptions, name) && Object.hasOwn(batchOptions, name)),
  );
  const served = {
    model: values.model === undefined ? EMBEDDED : folderAt(values.model).name,
    ...{ defaults, multiples, values: { ...clipValues, ...size && { size }, ...frames !== undefined && { frames } } },
  };
  const checkSize = ({ width, height, frames }: { width: number; height: number; frames: number }) => {
    if (width * height * frames <= defaults.width * defaults.height * defaults.frames) return;
    throw new TilereelError(
      `the clip has ${width}x${height} pixels and ${frames} frames, but this server makes clips up to ` +
        `${defaults.width}x${defaults.height} and ${defaults.frames}: ask for less, or start it with --size and --frames`,
      { option: "size" },
    );
  };
  const onBug = (error: unknown) => console.error(`tilereel: this is a bug: ${(error as Error)?.stack ?? error}`);
  using store = await JobStore.open(out);
  using queue = new Queue(store, { open: rest, largest: defaults }, onBug);
  using side = new SideWork({
    open: rest,
    largest: { width: defaults.width, height: defaults.height, frames: defaults.frames },
  });
  const trainings = new TrainingRuns(training);
  const app = serveApp(
    { hosts: [host, ...LOOPBACK], token },
    { store, queue, side, planning, served, checkSize, trainings },
    onBug,
  );
  const server = listen({ hostname: host, port }, app.fetch);
  const { waiting } = store;
  const address = `http://${addressText({ hostname: host, port: server.addr.port })}`;
  console.log(`Serving ${served.model}. The studio: ${address}/${token === undefined ? "" : "?token=SECRET"}`);
  console.log(`For programs: ${address}/v1/videos`);
  console.log(`Jobs and clips are in ${out}${waiting > 0 ? `; ${waiting} go on` : ""}. Ctrl-C ends the server.`);
  using _ = new Farewell(() => {
    queue[Symbol.dispose]();
    side[Symbol.dispose]();
    removeUnfinishedIn(out);
  });
  await server.finished;
  return 0;
}

function listen(
  where: { hostname: string; port: number },
  handler: (request: Request) => Response | Promise<Response>,
) {
  try {
    return Deno.serve({ ...where, onListen: () => {} }, handler);
  } catch (error) {
    const why = error instanceof Deno.errors.AddrInUse
      ? `port ${where.port} is in use: end what uses it, or choose another with --port`
      : `${where.hostname}:${where.port} cannot be listened at: ${(error as Error).message}`;
    throw new TilereelError(why, { cause: error, option: "port" });
  }
}
