import { TilereelError } from "../../gpu/common/errors.ts";
import { exists } from "../../model/files/file_error.ts";
import { formatBytes } from "../../gpu/common/format_bytes.ts";
import { openConversion } from "../../model/convert/convert_model.ts";
import { CONVERT_FORMATS } from "../../model/convert/planned_part.ts";
import { checkWritable } from "../../model/files/output.ts";
import { defineCommand } from "../../tools/program/command.ts";
import { openLongRun } from "../../tools/program/long_run.ts";
import { trainedModelOptions, variantOf } from "../../tools/program/model_options.ts";
import { choice, flag, inGroup, type OptionValues } from "../../tools/program/options.ts";
import { checkRoom } from "../disk_room.ts";

const { model: _model, "weight-dtype": _dtype, memory: _memory, tuning: _tuning, ...parts } = trainedModelOptions;

const options = {
  ...inGroup("Output", {
    format: choice({
      choices: CONVERT_FORMATS,
      help:
        "What the weights become. diffusers: as they are stored, but formats that only GGUF files have become f16; " +
        "int8: the layers of the transformer's blocks have 8 bits with scales, as with --weight-dtype int8, and F32 " +
        "becomes f16; f16, bf16: all matrices of transformer and encoders, rounded to nearest. The VAE stays as it is.",
      default: "diffusers",
    }),
    quiet: flag({ short: "q", help: "Print nothing but errors." }),
  }),
  ...parts,
};

/** `tilereel convert`: writes a model as a folder that loads fast. */
export const command = defineCommand({
  name: "tilereel convert",
  description:
    "Writes a model as a folder in the diffusers layout: of a transformer's file, ComfyUI's files, GGUF files " +
    "or another folder, with other parts and LoRAs in it for good, or in a smaller format. The folder makes the clips that " +
    "the model makes with the same options. Nothing is kept in memory whole.",
  positional: "IN OUT",
  completion: "file",
  options,
  examples: {
    "tilereel convert Wan2.1-T2V-14B-Diffusers wan-14b-int8 --format int8":
      "Writes 14B in int8: a quarter of the size, which streams four times as fast from disk.",
    "tilereel convert ComfyUI/models/diffusion_models/wan.gguf wan": "Writes a folder of ComfyUI's files.",
    "tilereel convert Wan2.1-T2V-1.3B-Diffusers styled --lora style.safetensors:0.8": "Adds a LoRA for good.",
  },
  run,
});

async function run(
  values: OptionValues<typeof options>,
  [from, to, ...rest]: readonly string[],
): Promise<number | void> {
  if (from === undefined || to === undefined || rest.length > 0) {
    throw new TilereelError("two paths are needed: the model, and the folder to write, as in tilereel convert IN OUT");
  }
  if (await exists(to)) throw new TilereelError(`${to} exists already; name a new folder, or remove it first`);
  await checkWritable(to);
  const variant = await variantOf(values);
  if (variant.textEncoder !== undefined) {
    throw new TilereelError(
      `${variant.textEncoder} is no safetensors or GGUF file, and other text encoders are not converted; leave it out`,
      { option: "text-encoder" },
    );
  }
  const { format = "diffusers", quiet = false, gpu: chosen } = values;
  // Updates of LoRAs are computed as they are when clips are made.
  using running = await openLongRun({
    ...{ quiet, precision: "auto", values: chosen === undefined ? {} : { gpu: chosen } },
    stopping: "Stopping; nothing is left behind. Press Ctrl-C again to end at once.",
  });
  const { gpu, signal, say, note, onProgress } = running;
  using conversion = await openConversion(from, { ...variant, gpu, format });
  const { kind, bytes, missing } = conversion;
  say(`${from} (${kind}) as ${format}: ${formatBytes(bytes)}, to ${to}`);
  await checkRoom(to, bytes, "");
  const written = await running.unlessStopped(conversion.write(to, onProgress, signal).then(() => true));
  if (!written) return running.status;
  for (const { what, count } of await gpu.takeClamped()) {
    note(`${count} numbers of ${what} did not fit f16, and became the largest that do`);
  }
  if (missing.length > 0) note(`the model came without ${missing.join(", ")}, and so does the folder`);
  say(`Next: tilereel generate "a cat on a skateboard" --model ${to}`);
}
