import { folderAt } from "../../model/files/disk.ts";
import { sceneOptions } from "../../tools/program/clip/clip_options.ts";
import { methodOptions } from "../../tools/program/clip/method_options.ts";
import { EMBEDDED } from "../../tools/program/clip/record.ts";
import { defineCommand } from "../../tools/program/command.ts";
import { modelOptions } from "../../tools/program/model_options.ts";
import { flag, inGroup, type OptionValues } from "../../tools/program/options.ts";
import { openOutput } from "../../tools/program/output.ts";
import { addressText } from "../address.ts";
import { USUAL_ADDRESS } from "../split_guidance/address.ts";
import { addressOption } from "../split_guidance/address_option.ts";
import { ModelHelper } from "../split_guidance/helper.ts";
import { serveAssistant } from "../split_guidance/server.ts";
import { serverTokenOf, tokenOption } from "../token.ts";

const USUAL = addressText(USUAL_ADDRESS);

const options = {
  ...inGroup("Assistant", {
    listen: addressOption({
      help: "Where to listen. Port 0 takes one that is free. Other machines can reach all but loopback addresses, so " +
        "these need --token.",
      default: USUAL,
    }),
    token: tokenOption("A secret of at least 16 characters, which generate must be given, too."),
    quiet: flag({ short: "q", help: "Print nothing but errors." }),
  }),
  ...modelOptions,
  ...inGroup("Clips", {
    size: { ...sceneOptions.size, help: "The largest size of the clips, for which weights are placed." },
    frames: { ...sceneOptions.frames, help: "The largest number of frames." },
    router: methodOptions.router,
    tiles: methodOptions.tiles,
  }),
};

/** `tilereel assist`: the other end of `generate --split-guidance`. */
export const command = defineCommand({
  name: "tilereel assist",
  description:
    "Computes half of each step for clips that another process renders with generate --split-guidance: the " +
    "pass of the negative prompt. Each process has a GPU of its own.",
  options,
  notes: "Give it the same model, precision and files of routers and tiles as generate. Both ends must be the same " +
    "tilereel. Text encoder and VAE are not loaded. It helps one process at a time, until it is ended.",
  examples: {
    "tilereel assist --model wan-14b --gpu dawn --memory 80GB --size 1280x720 --frames 81":
      `Loads the transformer and waits at ${USUAL}.`,
    [`tilereel generate "…" --model wan-14b --gpu dawn --memory 80GB --split-guidance ${USUAL}`]:
      "Renders a clip with its help, in another container or task that has another GPU.",
    "TILEREEL_TOKEN=… tilereel assist --listen 0.0.0.0:8643": "Helps a process on another machine.",
  },
  run,
});

async function run(values: OptionValues<typeof options>): Promise<number> {
  const { listen: address = USUAL_ADDRESS, size, frames, router, tiles } = values;
  const token = serverTokenOf(values.token, address.hostname, "--listen");
  using output = openOutput(values);
  using helper = await ModelHelper.open({
    values,
    files: { ...router !== undefined && { router }, ...tiles !== undefined && { tiles } },
    largest: { ...size, ...frames !== undefined && { frames } },
    output,
  });
  const onVisit = (event: "come" | "gone") =>
    output.say(event === "come" ? "A process has connected." : "The process has gone.");
  const server = serveAssistant({ address, token, helper, onVisit });
  const where = addressText({ ...address, port: server.addr.port });
  const model = values.model === undefined ? EMBEDDED : folderAt(values.model).name;
  output.say(`Assists with ${model} at ${where}: generate … --split-guidance ${where}. Ctrl-C ends it.`);
  await server.finished;
  return 0;
}
