import { assert, assertEquals } from "@std/assert";
import { dirname, join } from "node:path";
import { type Figures, LogReader } from "../../../cli/serve/trainings/log_reader.ts";
import { trainingObject, TrainingRuns } from "../../../cli/serve/trainings/training_runs.ts";
import { inTempDir, QUICK, tilereel } from "../../process.ts";
import { Api } from "./api.ts";
import { startServer } from "./server.ts";

const line = (step: number, more: object = {}) => `${JSON.stringify({ step, steps: 10, loss: 1 / step, ...more })}\n`;

async function write(path: string, text: string, append = false): Promise<void> {
  await Deno.mkdir(dirname(path), { recursive: true });
  await Deno.writeTextFile(path, text, { append });
}

Deno.test("a log is read while it grows; damaged, half-written and foreign lines are left out", () =>
  inTempDir(async (dir) => {
    const path = join(dir, "metrics.jsonl"), log = new LogReader(path);
    const news = async () => {
      const { begins, steps } = (await log.read())!;
      return [begins, steps.map(({ step }) => step)];
    };
    assertEquals(await log.read(), undefined);
    await write(path, `${line(1)}{"step":2,"lo`);
    assertEquals(await news(), [true, [1]]);
    assertEquals(await news(), [false, []]);
    await write(
      path,
      `ss":1}\n{"step":\n\0\n[3]\n${"[".repeat(2000)}\n${line(2)}${line(-1)}{"step":1e99}\n${line(3)}`,
      true,
    );
    assertEquals(await news(), [false, [2, 3]]);
    // Longer than any line, and without an end.
    await write(path, "x".repeat(3 << 20), true);
    assertEquals(await news(), [false, []]);
    await write(path, `\n${line(4)}`, true);
    assertEquals(await news(), [false, [4]]);
    // A training that resumes cuts its log back, by a new file.
    await write(join(dir, "new"), line(1) + line(2));
    await Deno.rename(join(dir, "new"), path);
    assertEquals(await news(), [true, [1, 2]]);
    await Deno.writeTextFile(path, "");
    assertEquals(await news(), [true, []]);
    await write(
      path,
      line(7, { losses: { kl: 2, text: "no" }, gone: null, list: [1], deep: { er: { est: 1 } } }),
      true,
    );
    assertEquals((await log.read())!.steps, [{ step: 7, steps: 10, loss: 1 / 7, "losses.kl": 2 } as Figures]);
    // Of a large log, the end.
    assertEquals((await new LogReader(path, 4).read())!.steps, []);
  }));

Deno.test("trainings are found in the folders that were named and below; links are not followed", () =>
  inTempDir(async (dir) => {
    const named = join(dir, "named");
    await write(join(dir, "other/metrics.jsonl"), line(1));
    await write(join(named, "a/metrics.jsonl"), line(1, { seconds: 4 }) + line(2, { seconds: 4 }));
    await write(join(named, "sweep/b/metrics.jsonl"), line(10));
    await write(join(named, "sweep/b/too/deep/metrics.jsonl"), line(1));
    await Deno.symlink(join(dir, "other"), join(named, "link"));
    await Deno.mkdir(join(named, "c"));
    await Deno.symlink(join(dir, "other/metrics.jsonl"), join(named, "c/metrics.jsonl"));
    const runs = new TrainingRuns([named, join(dir, "missing")]), found = await runs.list();
    assertEquals(found.map(({ name }) => name).sort(), [join(named, "a"), join(named, "sweep/b")]);
    const [a, b] = await Promise.all(["a", "sweep/b"].map((name) => {
      return trainingObject(found.find((run) => run.name === join(named, name))!);
    }));
    assertEquals([a!.state, a!.step, a!.steps, a!.seconds_left], ["running", 2, 10, 32]);
    assertEquals([b!.state, b!.step, b!.seconds_left], ["done", 10, null]);
    await Deno.utime(join(named, "a/metrics.jsonl"), 1e9, 1e9);
    assertEquals((await trainingObject(found.find(({ name }) => name.endsWith("a"))!))!.state, "stopped");
  }));

Deno.test("the server streams the figures of a training that the command line runs", () =>
  inTempDir(async (dir) => {
    const runs = join(dir, "runs"), log = join(runs, "router/metrics.jsonl");
    await using server = await startServer(dir, ["--training", runs]);
    const api = await Api.open(server.url);
    assertEquals((await api.ask("TrainingList", "/v1/trainings")).body.data, []);
    await Deno.writeTextFile(join(dir, "prompts.txt"), "a red circle\n");
    const given = ["--prompts", join(dir, "prompts.txt"), "--out", join(runs, "router"), "--cache", join(dir, "cache")];
    const trained = await tilereel(["train", "router", ...given, ...QUICK.slice(0, 4), "--steps", "1"]);
    assertEquals(trained.code, 0, trained.err);
    const { data } = (await api.ask("TrainingList", "/v1/trainings")).body as { data: { id: string; state: string }[] };
    assertEquals(data.map(({ state }) => state), ["done"]);
    const events = await fetch(`${server.url}/v1/trainings/${data[0]!.id}/events`);
    const reader = events.body!.pipeThrough(new TextDecoderStream()).getReader();
    const next = async () => {
      const { value } = await reader.read(), [, told] = /^event: steps\ndata: (.*)\n\n$/.exec(value!)!;
      return api.checked("TrainingSteps", JSON.parse(told!)) as { begins: boolean; steps: Record<string, number>[] };
    };
    const first = await next();
    assertEquals([first.begins, first.steps.map(({ step }) => step)], [true, [1]]);
    for (const name of ["loss", "losses.diffusion", "shares.full", "lr", "seconds", "steps"]) {
      assert(first.steps[0]![name] !== undefined, `${name} is missing: ${JSON.stringify(first.steps)}`);
    }
    await write(log, line(2), true);
    const second = await next();
    assertEquals([second.begins, second.steps], [false, [{ step: 2, steps: 10, loss: 0.5 }]]);
    await reader.cancel();
    for (const id of ["training_0", "..%2f..%2frouter", "%00"]) {
      assertEquals((await api.ask("Error", `/v1/trainings/${id}/events`)).status, 404);
    }
    assertEquals(server.errors(), "");
  }));
