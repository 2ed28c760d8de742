import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import type { HubFile } from "./hub.ts";

/** The file that makes a folder a model. It comes last, so that an unfinished folder is none. */
const INDEX = "model_index.json";

/** What models in the diffusers layout consist of. */
const WANTED = /\.(safetensors|gguf|json|model|txt)$/;
/** Parts that are not used: they check pictures, or are for other programs. */
const OTHERS = /^(assets|examples|images|feature_extractor|safety_checker|onnx|flax)\//;

/**
 * The files of a model that tilereel reads, in the order in which they are downloaded.
 *
 * @param only the folders of some parts alone. Default: all files
 * @throws {TilereelError} if there are none, there is no such part, or a path leaves the folder
 */
export function wantedFiles(id: string, files: readonly HubFile[], only?: readonly string[]): HubFile[] {
  const all = files.filter(({ path }) => WANTED.test(path) && !OTHERS.test(path));
  const partOf = ({ path }: HubFile) => path.split("/")[0]!,
    wanted = only ? all.filter((file) => only.includes(partOf(file))) : all;
  const parts = [...new Set(all.filter(({ path }) => path.includes("/")).map(partOf))];
  const missing = only?.find((part) => !parts.includes(part));
  if (missing !== undefined) {
    throw new TilereelError(`${id} has no part ${quoted(missing)}; name some of ${parts.sort().join(", ")}`, {
      option: "only",
    });
  }
  for (const { path } of wanted) {
    const names = path.split("/");
    if (/[\\:]|\p{Cc}/u.test(path) || names.some((name) => name === "" || name.startsWith("."))) {
      throw new TilereelError(
        `${id} has a file with the path ${quoted(path)}, which is not safe to write; it is refused`,
      );
    }
  }
  if (!only && !wanted.some(({ path }) => path.endsWith(".safetensors") || path.endsWith(".gguf"))) {
    throw new TilereelError(`${id} has no safetensors or GGUF files; name a model in the diffusers layout`);
  }
  return wanted.sort((a, b) =>
    Number(a.path === INDEX) - Number(b.path === INDEX) || a.bytes - b.bytes || (a.path < b.path ? -1 : 1)
  );
}
