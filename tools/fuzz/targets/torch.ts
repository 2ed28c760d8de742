import { memoryFile } from "../../../model/files/memory.ts";
import { readTorchStateDict } from "../../../model/checkpoint/torch_zip.ts";
import { isZip, readZipDirectory } from "../../../model/checkpoint/zip_directory.ts";
import { openCheckpoint } from "../../../model/checkpoint/sharded.ts";
import { loadRouter } from "../../../model/vorta/router_file.ts";
import { fixtureFolder } from "../fixtures.ts";
import { joined, mutateBytes } from "../mutate_bytes.ts";
import { readAll } from "./checkpoints.ts";
import type { FuzzTarget } from "../target.ts";
import { storedZip } from "../stored_zip.ts";

/** The contents of an archive, the pickle first. */
async function entriesOf(bytes: Uint8Array<ArrayBuffer>): Promise<Record<string, Uint8Array<ArrayBuffer>>> {
  using file = await memoryFile("a.pt", bytes).open();
  const found = [...await readZipDirectory(file)].map(([name, { offset, length }]) =>
    [name, bytes.slice(offset, offset + length)] as const
  );
  return Object.fromEntries(found.sort(([a], [b]) => Number(b.endsWith("data.pkl")) - Number(a.endsWith("data.pkl"))));
}

const stateDict = (pickle: Uint8Array) => readTorchStateDict(memoryFile("a.pt", storedZip({ "a/data.pkl": pickle })));
const program = (...codes: readonly (number | readonly number[])[]) => Uint8Array.from([0x80, 2, ...codes.flat()]);
const repeated = (times: number, ...codes: readonly number[]) =>
  joined(Uint8Array.of(0x80, 2), Uint8Array.from({ length: times * codes.length }, (_, i) => codes[i % codes.length]!));

/** A router, and the same file as weights of a model. */
async function readBoth(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  const weights = await openCheckpoint(memoryFile("weights.pth", bytes), "").catch((error) => error);
  if (!(weights instanceof Error)) await readAll(weights);
  await loadRouter(memoryFile("router.pt", bytes));
  if (weights instanceof Error) throw weights;
}

export const torch: FuzzTarget = {
  reads: "weights and routers by torch.save",
  open: async () => {
    const all = await fixtureFolder("tests/fixtures/router");
    const files = Object.entries(all).filter(([name]) => name.endsWith(".pt")).map(([, bytes]) => bytes);
    const archives = await Promise.all(files.filter((bytes) => isZip(bytes)).map(entriesOf));
    return (dice) => {
      if (dice.once(4)) return readBoth(mutateBytes(dice.of(files), dice));
      const entries = dice.of(archives), name = dice.of(Object.keys(entries).filter((_, i) => i === 0 || dice.once(8)));
      return readBoth(storedZip({ ...entries, [name]: mutateBytes(entries[name]!, dice) }));
    };
  },
  extremes: {
    "a pickle of 16 MB of tuples": () => stateDict(repeated(2 ** 24, 0x29)),
    "the largest pickle, of tuples in tuples": () => stateDict(repeated(2 ** 20 - 2, 0x29, 0x85)),
    "the largest pickle, of remembered dicts": () => stateDict(repeated(2 ** 20 - 2, 0x7d, 0x94)),
    "the largest pickle, of marks": () => stateDict(repeated(2 ** 21 - 2, 0x28)),
    "the largest pickle, of integers of one byte": () => stateDict(repeated(2 ** 20 - 2, 0x4b, 7)),
    "a name that runs a program": () => stateDict(joined(program([0x63]), new TextEncoder().encode("os\nsystem\n"))),
    "a string of 2 MB as a name": () =>
      stateDict(joined(program([0x63]), new TextEncoder().encode(`${"x".repeat(2e6)}\nb\n`))),
    "65,000 entries": () =>
      readTorchStateDict(
        memoryFile(
          "a.pt",
          storedZip(Object.fromEntries(Array.from({ length: 65_000 }, (_, i) => [`a/${i}`, new Uint8Array()]))),
        ),
      ),
  },
};
