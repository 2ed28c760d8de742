export interface EnvironmentVariable {
  /** One sentence for the help. */
  readonly help: string;
  /** The option whose commands list it in their own help, too. */
  readonly option?: string;
}

/** All variables that the program reads, by name, in the order of the help. They are read by this file alone. */
export const ENVIRONMENT = {
  TILEREEL_CACHE: {
    help: "Folder of kernels.json, which remembers each GPU's fastest kernels (default: tilereel in the user's cache " +
      "folder, which XDG_CACHE_HOME or HOME, on Windows LOCALAPPDATA, tells).",
    option: "tuning",
  },
  TILEREEL_DAWN: {
    help: "File dawn.node of the npm package webgpu, for --gpu dawn (default: where deno task dawn puts it).",
    option: "gpu",
  },
  HF_TOKEN: { help: "Token of Hugging Face, to download models that are not public.", option: "local-dir" },
  HF_ENDPOINT: { help: "Address of the hub to download from (default: https://huggingface.co).", option: "local-dir" },
  TILEREEL_TOKEN: {
    help: "Secret of the server or assistant, as --token has it; other users of the machine do not see it here.",
    option: "token",
  },
  SLURM_ARRAY_TASK_ID: { help: "Of a Slurm array: the number of this task, which says the shard.", option: "shard" },
  SLURM_ARRAY_TASK_MIN: { help: "The number of its first task.", option: "shard" },
  SLURM_ARRAY_TASK_MAX: { help: "The number of its last task.", option: "shard" },
  SLURM_ARRAY_TASK_COUNT: { help: "The number of its tasks.", option: "shard" },
  JOB_COMPLETION_INDEX: { help: "Of an indexed Kubernetes job: the number of this pod from 0.", option: "shard" },
  JOB_COMPLETIONS: { help: "The number of its completions, which the job's file has to set.", option: "shard" },
  TILEREEL_TRACE: { help: "1 shows errors with a stack trace, for bug reports." },
  TILEREEL_CWD: { help: "Folder to run in (default: the current one); deno task tilereel sets it." },
  NO_COLOR: { help: "Anything: no colours in stack traces (Deno reads it)." },
  XDG_CACHE_HOME: { help: "The user's cache folder on Linux (default: .cache in HOME)." },
  HOME: { help: "The user's folder, where caches are on Linux and macOS." },
  LOCALAPPDATA: { help: "The user's cache folder on Windows." },
  XDG_RUNTIME_DIR: { help: "Set to /tmp for GPU drivers where it is not set." },
  __GL_SHADER_DISK_CACHE: {
    help:
      "0: NVIDIA's driver keeps no compiled kernels. Set to 1 for it where it is not set: it would keep none for root.",
  },
} as const satisfies Readonly<Record<string, EnvironmentVariable>>;

export type VariableName = keyof typeof ENVIRONMENT;

/** The value of a variable; undefined where it is not set. */
export function variable(name: VariableName): string | undefined {
  return Deno.env.get(name);
}

/**
 * What NVIDIA's driver is told where the user says nothing: to keep what it compiled in the user's cache folder. By
 * default, it does not for root, whom most containers run programs as, so that every process would compile all kernels.
 */
export function keptKernels(): Readonly<Record<string, string>> {
  return variable("__GL_SHADER_DISK_CACHE") === undefined ? { __GL_SHADER_DISK_CACHE: "1" } : {};
}

/** Runs `call` with variables set, and restores them when it returns, even if it returns a promise that is pending. */
export function withVariables<T>(values: Readonly<Record<string, string>>, call: () => T): T {
  const before = Object.keys(values).map((name) => [name, Deno.env.get(name)] as const);
  for (const [name, value] of Object.entries(values)) Deno.env.set(name, value);
  try {
    return call();
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) Deno.env.delete(name);
      else Deno.env.set(name, value);
    }
  }
}
