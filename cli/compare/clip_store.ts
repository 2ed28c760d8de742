import { createHash } from "node:crypto";
import { join } from "node:path";
import { exists, fileError } from "../../model/files/file_error.ts";
import type { OnProgress } from "../../model/progress.ts";
import type { Video } from "../../model/video/video.ts";
import { writeAtomically } from "../../model/files/output.ts";
import { slug } from "../../tools/program/clip/slug.ts";
import { writeVideo } from "../../model/video/write_video.ts";
import { encodePoster } from "./poster.ts";
import type { Figures, Likeness } from "./comparison.ts";
import { readSamples, writeSamples } from "./samples.ts";

/** Everything that determines a clip and its figures. */
export type Identity = Readonly<Record<string, unknown>> & { readonly prompt: string; readonly seed: number };

/** The content of a clip's record. */
interface Recorded extends Figures {
  readonly identity: Identity;
  readonly shape: Omit<Video, "data">;
  /** The similarity to the clip with this digest. */
  readonly likeness?: Likeness & { readonly to: string };
}

/** An existing clip. */
export interface StoredClip {
  readonly digest: string;
  /** The name of the prompt's folder, and the name of the clip's files in it without their endings. */
  readonly folder: string;
  readonly name: string;
  readonly recorded: Recorded;
}

const VIDEO = ".mp4", POSTER = ".png", SAMPLES = ".rgb.gz", RECORD = ".json";

/**
 * Finds and writes the clips in a comparison's folder, by everything they were made with. There is one folder per
 * prompt and seed. It has an MP4, a poster, the samples and a record of each clip; the record is written last.
 */
export class ClipStore {
  readonly #clips = new Map<string, StoredClip>();
  /** The files that show several clips side by side, by the digests of the clips. */
  readonly #together = new Map<string, string>();
  /** Prompts and seeds by the folders of their clips. */
  readonly #folders = new Map<string, string>();
  /** Files that this run uses and therefore does not overwrite. */
  readonly #used = new Set<string>();

  private constructor(private readonly root: string) {}

  /**
   * Reads a folder, which need not exist. Files that do not belong to a comparison are ignored.
   *
   * @throws {TilereelError} when it cannot be read
   */
  static async open(root: string): Promise<ClipStore> {
    const store = new ClipStore(root);
    if (!await exists(root)) return store;
    try {
      for await (const { name, isDirectory } of Deno.readDir(root)) {
        if (isDirectory && !name.startsWith(".")) await store.#readFolder(name);
      }
    } catch (error) {
      throw fileError(root, "read", error);
    }
    return store;
  }

  /**
   * Gives each prompt and seed its folder now, in this order, so that all processes that share a comparison call them the
   * same.
   */
  nameFolders(identities: readonly Identity[]): void {
    for (const identity of identities) this.#folderOf(identity);
  }

  /** Finds the clip with this identity, if it exists, and keeps its files from being overwritten. */
  find(identity: Identity): StoredClip | undefined {
    const clip = this.#clips.get(digestOf(identity));
    if (clip) this.#used.add(join(clip.folder, clip.name));
    return clip;
  }

  /** Writes a clip. It may replace a clip of the same name that this run does not use. */
  async add(
    label: string,
    video: Video,
    { identity, ...figures }: Figures & { readonly identity: Identity },
    onProgress: OnProgress,
  ): Promise<StoredClip> {
    const folder = this.#folderOf(identity), name = this.#freeName(folder, slug(label));
    const path = join(this.root, folder, name);
    // A record means that all files are complete.
    await Deno.remove(path + RECORD).catch(() => {});
    const record = { ...identity, density: Number(figures.density.toFixed(4)) };
    await writeVideo(path + VIDEO, video, { onProgress, record });
    await writeAtomically(path + POSTER, (temporary) => Deno.writeFile(temporary, encodePoster(video)));
    await writeSamples(path + SAMPLES, video);
    const { data: _, ...shape } = video;
    return await this.#record({ digest: digestOf(identity), folder, name, recorded: { identity, shape, ...figures } });
  }

  /** The samples of a clip; undefined if they are damaged. */
  async samples({ folder, name, recorded }: StoredClip): Promise<Video | undefined> {
    return await readSamples(join(this.root, folder, name + SAMPLES), recorded.shape);
  }

  /** Records how similar a clip is to another one. */
  async note(clip: StoredClip, likeness: Likeness, to: StoredClip): Promise<StoredClip> {
    return await this.#record({ ...clip, recorded: { ...clip.recorded, likeness: { ...likeness, to: to.digest } } });
  }

  /** Removes a clip whose files are damaged from the index. */
  forget(clip: StoredClip): void {
    this.#clips.delete(clip.digest);
    this.#used.delete(join(clip.folder, clip.name));
  }

  /**
   * Finds the file that shows these clips side by side, or makes it. Returns its name in their folder.
   *
   * @param make gives what it shows
   */
  async together(
    clips: readonly StoredClip[],
    make: () => Promise<Video>,
    onProgress: OnProgress,
  ): Promise<string> {
    const { folder } = clips[0]!, digests = clips.map(({ digest }) => digest);
    const found = this.#together.get(digests.join());
    if (found !== undefined) {
      this.#used.add(join(folder, found));
      return found + VIDEO;
    }
    const name = this.#freeName(folder, "side-by-side");
    const path = join(this.root, folder, name);
    await Deno.remove(path + RECORD).catch(() => {});
    await writeVideo(path + VIDEO, await make(), { onProgress });
    await writeJson(path + RECORD, { together: digests });
    this.#together.set(digests.join(), name);
    return name + VIDEO;
  }

  /** Whether there is the file that shows these clips side by side. */
  areTogether(clips: readonly StoredClip[]): boolean {
    return this.#together.has(clips.map(({ digest }) => digest).join());
  }

  async #record(clip: StoredClip): Promise<StoredClip> {
    await writeJson(join(this.root, clip.folder, clip.name + RECORD), clip.recorded);
    this.#clips.set(clip.digest, clip);
    return clip;
  }

  async #readFolder(folder: string): Promise<void> {
    const names = new Set<string>();
    for await (const { name } of Deno.readDir(join(this.root, folder))) names.add(name);
    for (const file of names) {
      if (!file.endsWith(RECORD) || file.startsWith(".")) continue;
      const name = file.slice(0, -RECORD.length), has = (end: string) => names.has(name + end);
      const record = await readJson(join(this.root, folder, file));
      if (isTogether(record) && has(VIDEO)) this.#together.set(record.together.join(), name);
      if (!isRecorded(record)) continue;
      const { identity } = record;
      this.#folders.set(folder, sceneOf(identity));
      if (![VIDEO, POSTER, SAMPLES].every(has)) continue;
      const digest = digestOf(identity);
      this.#clips.set(digest, { digest, folder, name, recorded: record });
    }
  }

  /** The existing folder of a prompt and a seed, or a new one. */
  #folderOf(identity: Identity): string {
    const scene = sceneOf(identity), base = `${slug(identity.prompt)}-${identity.seed}`;
    for (const [folder, other] of this.#folders) if (other === scene) return folder;
    const folder = numbered(base, (name) => this.#folders.has(name));
    this.#folders.set(folder, scene);
    return folder;
  }

  #freeName(folder: string, base: string): string {
    const name = numbered(base, (name) => this.#used.has(join(folder, name)));
    this.#used.add(join(folder, name));
    return name;
  }
}

/** The files of a clip that the page shows. */
export function filesOf({ name }: StoredClip): { file: string; poster: string } {
  return { file: name + VIDEO, poster: name + POSTER };
}

/** Where there is a digest of a file, the file's name has no effect. */
function digestOf(identity: Identity): string {
  const deciding = Object.entries(identity).filter(([key]) => !Object.hasOwn(identity, `${key}Digest`));
  return createHash("sha256").update(JSON.stringify(deciding)).digest("hex").slice(0, 16);
}

function sceneOf({ prompt, seed }: Identity): string {
  return JSON.stringify([prompt, seed]);
}

/** `name`, or the first of `name-2`, `name-3`, … that is not taken. */
function numbered(name: string, isTaken: (name: string) => boolean): string {
  if (!isTaken(name)) return name;
  let i = 2;
  while (isTaken(`${name}-${i}`)) i++;
  return `${name}-${i}`;
}

async function writeJson(path: string, value: unknown): Promise<void> {
  await writeAtomically(path, (temporary) => Deno.writeTextFile(temporary, `${JSON.stringify(value, null, 1)}\n`));
}

/** Undefined if the file is not JSON or cannot be read; it is then written again. */
async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await Deno.readTextFile(path));
  } catch {
    return undefined;
  }
}

function isRecorded(value: unknown): value is Recorded {
  const { identity, shape, seconds, timesteps } = (value ?? {}) as Partial<Recorded>;
  return typeof identity?.prompt === "string" && typeof identity.seed === "number" &&
    typeof shape?.width === "number" && typeof seconds?.denoise === "number" && Array.isArray(timesteps);
}

function isTogether(value: unknown): value is { readonly together: readonly string[] } {
  return Array.isArray((value as { together?: unknown } | undefined | null)?.together);
}
