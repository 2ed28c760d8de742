import { TilereelError } from "../../gpu/common/errors.ts";
import { isFolder } from "../../model/files/output.ts";
import { defineCommand } from "../../tools/program/command.ts";
import { flag, inGroup, type OptionValues } from "../../tools/program/options.ts";
import { readServer } from "../status/server.ts";
import { readShards } from "../status/shards.ts";
import { serverText, trainingText, workText } from "../status/text.ts";
import { readTraining } from "../status/training.ts";

const options = inGroup("Output", {
  json: flag({ help: "Print one JSON object instead of text." }),
});

/** `tilereel status`: says how far the work in a folder is. */
export const command = defineCommand({
  name: "tilereel status",
  description:
    "Says what is done in a folder, what runs, what was broken off and what failed, and how long it will take: " +
    "of shards (--shard of generate, compare and train router), of a training, and of a server's clips. It only reads.",
  positional: "FOLDER",
  completion: "folder",
  options,
  notes:
    "A shard is running, done, failed (it came to its end, but some clips could not be made), stopped (it was ended " +
    "before) or waiting (it has not begun). A process on this machine is looked up; one elsewhere is taken for ended if " +
    "it gave no sign of life for two minutes.",
  examples: {
    "tilereel status clips": "Shows how far the shards are that write into clips.",
    "tilereel status clips --json | jq '.works[].shards[] | select(.status == \"stopped\") | .index'":
      "Prints the numbers of the shards that were broken off.",
  },
  run,
});

async function run({ json = false }: OptionValues<typeof options>, [folder]: readonly string[]): Promise<number> {
  if (folder === undefined) throw new TilereelError("there is no folder: name one, as in tilereel status out");
  if (!await isFolder(folder)) {
    throw new TilereelError(`${folder} is not a folder: name that of the clips or the training`);
  }
  const works = await readShards(folder), training = await readTraining(folder), server = await readServer(folder);
  if (json) {
    console.log(JSON.stringify({ folder, works, ...training && { training }, ...server && { server } }));
    return 0;
  }
  if (works.length === 0 && !training && !server) {
    throw new TilereelError(
      `${folder} has no shards, no training and no server's clips, so there is nothing to tell: name the folder of --out`,
    );
  }
  const now = Date.now() / 1000;
  const parts = [
    ...works.map((work) => workText(work, now)),
    ...training ? [trainingText(training, now)] : [],
    ...server ? [serverText(server)] : [],
  ];
  console.log(parts.join("\n\n"));
  return 0;
}
