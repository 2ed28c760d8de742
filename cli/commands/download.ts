import { basename, join } from "node:path";
import { variable } from "../../gpu/common/environment.ts";
import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { formatBytes } from "../../gpu/common/format_bytes.ts";
import { didYouMean } from "../../gpu/common/nearest.ts";
import { defineCommand } from "../../tools/program/command.ts";
import { flag, inGroup, notation, type OptionValues, path, text } from "../../tools/program/options.ts";
import { openOutput, type Output } from "../../tools/program/output.ts";
import { digestOf, downloadTo, unfinishedName } from "../download/download_file.ts";
import { checkRoom } from "../disk_room.ts";
import { Hub, type HubFile, type HubModel } from "../download/hub.ts";
import { KNOWN_MODELS } from "../download/known_models.ts";
import { wantedFiles } from "../download/wanted_files.ts";

/** Progress counts such pieces. */
const MB = 1e6;

const options = inGroup("Download", {
  "local-dir": path({
    value: "DIR",
    help: "The folder for the files.",
    elsewhere: ["out", "output", "dir"],
    default: "the model's name, in the current folder",
  }),
  revision: text({ value: "NAME", help: "A branch, tag or commit of the model.", default: "main" }),
  only: notation<readonly string[]>(
    {
      value: "PARTS",
      help: "Download only these parts of the model, if you have files of the others.",
      default: "all parts",
    },
    "names of parts with commas between them, as in vae,text_encoder,tokenizer",
    (text) => /^\w+(\s*,\s*\w+)*$/.test(text) ? text.split(/\s*,\s*/) : undefined,
  ),
  verify: flag({ help: "Also check the contents of files that are there already." }),
  "dry-run": flag({ help: "Only list the files and their sizes." }),
  quiet: flag({ short: "q", help: "Print nothing but errors." }),
});

/** `tilereel download`: fetches a model from Hugging Face, or from another hub that speaks its protocol. */
export const command = defineCommand({
  name: "tilereel download",
  description: "Downloads a model from Hugging Face into a folder that --model takes. Of the model's files, it takes " +
    "those that tilereel reads. If it is ended or the connection breaks, run it again: it goes on from there.",
  positional: "MODEL",
  completion: Object.keys(KNOWN_MODELS),
  options,
  examples: {
    "tilereel download wan-1.3b": "Downloads Wan 2.1 T2V 1.3B.",
    "tilereel download hunyuan --local-dir models/hunyuan": "Downloads HunyuanVideo into that folder.",
    "tilereel download wan-1.3b --only vae,text_encoder,tokenizer --local-dir models":
      "Downloads what belongs to a transformer's file in that folder.",
    "tilereel download someone/their-wan-finetune": "Downloads any other model by its name on Hugging Face.",
    "HF_ENDPOINT=https://hf-mirror.com tilereel download wan-1.3b": "Downloads from a mirror.",
  },
  notes: `Short names: ${
    Object.entries(KNOWN_MODELS).map(([name, id]) => `${name} (${id})`).join(", ")
  }. Every file is checked by the digest that the hub states before it gets its name.`,
  run,
});

async function run(values: OptionValues<typeof options>, [name]: readonly string[]): Promise<void> {
  const model = { id: modelId(name), revision: values.revision ?? "main" };
  const hub = new Hub(variable("HF_ENDPOINT") || undefined, variable("HF_TOKEN") || undefined);
  const folder = values["local-dir"] ?? basename(model.id);
  using output = openOutput(values);
  const files = wantedFiles(model.id, await hub.files(model), values.only), bytes = sum(files);
  output.say(`${model.id}: ${count(files)}, ${formatBytes(bytes)}, to ${folder}`);
  if (values["dry-run"]) {
    for (const file of files) output.say(`  ${formatBytes(file.bytes).padStart(10)}  ${file.path}`);
    return;
  }
  const missing = await missingFiles(folder, files, values.verify ?? false, output);
  await Deno.mkdir(folder, { recursive: true });
  await checkRoomFor(folder, missing);
  await downloadAll(folder, hub, model, missing, output);
  const others = missing.length < files.length ? "; the others were there" : "";
  output.say(missing.length === 0 ? "Everything is there already." : `Downloaded ${count(missing)}${others}.`);
  if (!values.only) output.say(`Next: tilereel generate "a cat on a skateboard" --model ${folder}`);
}

/** The name of a model on the hub. */
function modelId(name: string | undefined): string {
  if (name === undefined) {
    throw new TilereelError(
      `the model to download is missing; name one of ${Object.keys(KNOWN_MODELS).join(", ")}, or owner/name`,
    );
  }
  const id = KNOWN_MODELS[name.toLowerCase()] ?? name.replace(/^https:\/\/huggingface\.co\//, "").replace(/\/+$/, "");
  if (/^[\w-][\w.-]*\/[\w-][\w.-]*$/.test(id)) return id;
  const near = didYouMean(name.toLowerCase(), Object.keys(KNOWN_MODELS));
  throw new TilereelError(
    `${quoted(name)} is not the name of a model${near}; name one of ${
      Object.keys(KNOWN_MODELS).join(", ")
    }, or owner/name`,
  );
}

/** The files that are not there in their length; with `verify`, also those whose contents are others. */
async function missingFiles(
  folder: string,
  files: readonly HubFile[],
  verify: boolean,
  { onProgress, warn }: Output,
): Promise<HubFile[]> {
  const missing: HubFile[] = [], total = Math.ceil(sum(files) / MB);
  let looked = 0;
  for (const file of files) {
    const place = join(folder, file.path);
    const size = await Deno.stat(place).then(({ size }) => size, () => undefined);
    let right = size === file.bytes;
    if (right && verify) {
      onProgress({ stage: "verify", done: Math.floor(looked / MB), total, detail: file.path });
      right = await digestOf(place, file) === file.digest.hex;
      if (!right) warn(`Note: ${place} has other contents than the hub's file, and is downloaded again.`);
    }
    looked += file.bytes;
    if (!right) missing.push(file);
  }
  if (verify) onProgress({ stage: "verify", done: total, total });
  return missing;
}

/** @throws {TilereelError} if the disk has too little room for what is missing */
async function checkRoomFor(folder: string, missing: readonly HubFile[]): Promise<void> {
  const begun = await Promise.all(
    missing.map(({ path }) => Deno.stat(unfinishedName(join(folder, path))).then(({ size }) => size, () => 0)),
  );
  await checkRoom(folder, sum(missing) - begun.reduce((a, b) => a + b, 0), " with --local-dir");
}

async function downloadAll(
  folder: string,
  hub: Hub,
  model: HubModel,
  missing: readonly HubFile[],
  { onProgress }: Output,
): Promise<void> {
  const bytes = sum(missing), total = Math.max(1, Math.ceil(bytes / MB));
  let done = 0;
  for (const [i, file] of missing.entries()) {
    const detail = `MB, file ${i + 1} of ${missing.length}: ${file.path}`;
    await downloadTo(join(folder, file.path), hub, model, file, (more) => {
      done += more;
      if (done < bytes) onProgress({ stage: "download", done: Math.floor(done / MB), total, detail });
    });
  }
  if (missing.length > 0) onProgress({ stage: "download", done: total, total });
}

const sum = (files: readonly HubFile[]) => files.reduce((sum, { bytes }) => sum + bytes, 0);
const count = (files: readonly HubFile[]) => `${files.length} file${files.length === 1 ? "" : "s"}`;
