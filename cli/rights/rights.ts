import { basename } from "node:path";
import { ENVIRONMENT } from "../../gpu/common/environment.ts";
import { dawnAddon } from "../../gpu/native/dawn_addon.ts";
import { tuningPath } from "../../gpu/native/tuning_file.ts";
import { KNOWN_MODELS } from "../download/known_models.ts";
import { type Address, addressText, bracketed, parseAddress } from "../address.ts";
import { DEFAULT_HOST, DEFAULT_PORT } from "../serve/address.ts";
import { USUAL_ADDRESS } from "../split_guidance/address.ts";
import { Arguments } from "./arguments.ts";
import { foldersFor, foldersOf, withTarget } from "./places.ts";

/** What a command may do beside reading files, and remembering the fastest kernels in the user's cache folder. */
interface CommandRights {
  /** Options that name a file that it writes, and the folder that it is in without the option, if any. */
  readonly files?: Readonly<Record<string, string | undefined>>;
  /** Options that name a folder that it fills, and the folder without the option. */
  readonly folders?: Readonly<Record<string, string | ((args: Arguments) => string)>>;
  /** The number of the positional argument that names what it writes. */
  readonly writes?: number;
  /** Its options without a value. They are listed only where positional arguments are looked at. */
  readonly flags?: readonly string[];
  /** It may run ffmpeg, which reads pictures and clips in other formats. */
  readonly ffmpeg?: true;
  /** Hosts with ports that it may reach or listen at; true for all. */
  readonly net?: true | ((args: Arguments) => string[]);
  /** It reads no files but those that it wrote. */
  readonly readsItsOwn?: true;
}

/** Letters of options. */
const SHORT: Readonly<Record<string, string>> = { out: "o" };

/** By the words that name the command. */
export const RIGHTS: Readonly<Record<string, CommandRights>> = {
  generate: { files: { out: "out", preview: undefined, profile: undefined }, ffmpeg: true, net: assistantOf },
  compare: { folders: { out: "out" }, ffmpeg: true },
  "train router": { folders: { out: "out", cache: "out" }, ffmpeg: true },
  "train tiles": { folders: { out: "out" }, ffmpeg: true },
  "search tiles": { files: { out: "out" }, ffmpeg: true },
  assist: { net: assistsAt },
  serve: { folders: { out: "out" }, net: listensAt },
  status: {},
  download: {
    folders: {
      "local-dir": ({ positionals: [model = ""] }) => basename(KNOWN_MODELS[model.toLowerCase()] ?? model) || ".",
    },
    flags: ["verify", "dry-run", "quiet", "q"],
    net: true,
    readsItsOwn: true,
  },
  convert: { writes: 1, flags: ["quiet", "q"] },
  info: { ffmpeg: true },
  tune: {},
  parity: {},
  completion: {},
};

/** Variables of the environment that may be read, and what --gpu sets for Deno, which chooses the adapter by it. */
const VARIABLES = [...Object.keys(ENVIRONMENT), "DENO_WEBGPU_BACKEND"];
/** What may be asked of the system: the room on a disk. */
const SYSTEM = ["statfs"] as const;

/** The rights of a command line, as a worker takes them. */
export function rightsOf([first = "", second = "", ...rest]: readonly string[]): Deno.PermissionOptionsObject {
  const name = Object.hasOwn(RIGHTS, first) ? first : `${first} ${second}`;
  const command: CommandRights = Object.hasOwn(RIGHTS, name) ? RIGHTS[name]! : {};
  const args = new Arguments(name === first ? [second, ...rest] : rest, command.flags);
  const write = written(command, args), dawn = args.values("gpu").some((name) => name.startsWith("dawn"));
  const addon = dawn ? dawnAddon() : undefined, hosts = typeof command.net === "function" ? command.net(args) : [];
  return {
    read: command.readsItsOwn ? write : true,
    write,
    net: command.net === true || hosts.length > 0 && hosts,
    run: command.ffmpeg ? ["ffmpeg"] : false,
    // Node's `require`, which loads it, follows links.
    ffi: addon === undefined ? false : withTarget(addon),
    env: VARIABLES,
    sys: [...SYSTEM],
    import: false,
  };
}

function written({ files = {}, folders = {}, writes = -1 }: CommandRights, args: Arguments): string[] {
  const kernels = tuningPath(), to = args.positionals[writes];
  const given = (name: string) => args.values(name, SHORT[name] ?? name);
  return [
    ...[kernels, to].flatMap((path) => path === undefined ? [] : foldersOf(path)),
    ...Object.entries(files).flatMap(([name, usual]) => {
      const paths = given(name);
      return paths.length > 0 || usual === undefined ? paths.flatMap(foldersOf) : foldersFor(usual);
    }),
    ...Object.entries(folders).flatMap(([name, usual]) => {
      const paths = given(name);
      return (paths.length > 0 ? paths : [typeof usual === "string" ? usual : usual(args)]).flatMap(foldersFor);
    }),
  ];
}

function listensAt(args: Arguments): string[] {
  const host = args.values("host").at(-1) ?? DEFAULT_HOST, port = args.values("port").at(-1) ?? `${DEFAULT_PORT}`;
  const name = host.startsWith("[") ? host : bracketed(host);
  // Port 0 is any that is free.
  return [port === "0" ? name : `${name}:${port}`];
}

/** The assistant that computes a half of each step. */
function assistantOf(args: Arguments): string[] {
  const address = parseAddress(args.values("split-guidance").at(-1) ?? "");
  return address ? [addressText(address)] : [];
}

function assistsAt(args: Arguments): string[] {
  const given = args.values("listen").at(-1), address = given === undefined ? USUAL_ADDRESS : parseAddress(given);
  return address ? [anyPortIfFree(address)] : [];
}

/** Port 0 is any that is free. */
function anyPortIfFree(address: Address): string {
  return address.port === 0 ? bracketed(address.hostname) : addressText(address);
}
