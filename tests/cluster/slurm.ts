import { join } from "node:path";
import { execute } from "../process.ts";

const PROGRAMS = ["munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "scancel"];

/** Whether Slurm can be started here: it is installed, and the daemons may run as root. */
export function hasSlurm(): boolean {
  if (Deno.build.os !== "linux" || Deno.uid() !== 0) return false;
  return PROGRAMS.every((name) =>
    ["/usr/bin", "/usr/sbin"].some((dir) => {
      try {
        return Deno.statSync(join(dir, name)).isFile;
      } catch {
        return false;
      }
    })
  );
}

/** A Slurm of one node, this machine, with a folder and ports of its own. */
export class Slurm implements AsyncDisposable {
  readonly #daemons: Deno.ChildProcess[] = [];
  readonly #env: Record<string, string>;

  private constructor(private readonly dir: string) {
    this.#env = { SLURM_CONF: join(dir, "slurm.conf"), NO_COLOR: "1" };
  }

  /** Starts it. */
  static async start(): Promise<Slurm> {
    const dir = await Deno.makeTempDir({ prefix: "tilereel-slurm-" }), slurm = new Slurm(dir);
    // munged refuses a socket in a folder that others may not enter, and a key that they may read.
    await Deno.chmod(dir, 0o755);
    for (const name of ["munge", "state", "spool"]) await Deno.mkdir(join(dir, name), { mode: 0o755 });
    await Deno.writeFile(join(dir, "munge/key"), crypto.getRandomValues(new Uint8Array(1024)), { mode: 0o600 });
    await Deno.writeTextFile(slurm.#env.SLURM_CONF!, configuration(dir, freePorts(2)));
    const files = { "key-file": "key", socket: "socket", "pid-file": "pid", "seed-file": "seed" };
    try {
      slurm.#spawn("munged", "-F", ...Object.entries(files).map(([name, file]) => `--${name}=${dir}/munge/${file}`));
      await slurm.#until("socket of munge", () => Deno.stat(join(dir, "munge/socket")).then(() => true, () => false));
      slurm.#spawn("slurmctld", "-D");
      slurm.#spawn("slurmd", "-D");
      await slurm.#until("idle node", async () => (await slurm.#try("sinfo", "-h", "-o", "%T")).out.trim() === "idle");
      return slurm;
    } catch (error) {
      await slurm[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Runs a program of Slurm and gives what it prints. */
  async run(program: string, ...args: string[]): Promise<string> {
    const { code, out, err } = await this.#try(program, ...args);
    if (code !== 0) throw new Error(`${program} ${args.join(" ")}: ${err}`);
    return out.trim();
  }

  /**
   * Submits a job, and gives its number.
   *
   * @param path a folder of programs that it finds
   */
  async submit(cwd: string, path: string, args: readonly string[]): Promise<string> {
    const env = { ...this.#env, PATH: `${path}:${Deno.env.get("PATH")}` };
    const { code, out, err } = await execute("sbatch", ["--parsable", ...args], { cwd, env });
    if (code !== 0) throw new Error(err);
    return out.trim();
  }

  /** The states of a job's tasks that have not come to a good end, by their numbers. */
  async tasks(job: string): Promise<Record<string, string>> {
    const out = await this.run("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%K %T");
    const rows = out.split("\n").filter(Boolean).map((line) => line.split(" ") as [string, string]);
    return Object.fromEntries(rows.filter(([, state]) => state !== "COMPLETED"));
  }

  /** Stops all jobs and the daemons. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#daemons.length > 1) await this.#try("scancel", "--user=root");
    for (const daemon of this.#daemons.toReversed()) {
      try {
        daemon.kill("SIGTERM");
      } catch {
        // It has ended.
      }
      await daemon.status;
    }
    await Deno.remove(this.dir, { recursive: true });
  }

  #spawn(program: string, ...args: string[]): void {
    const words = ["-c", 'exec "$0" "$@" 2> "$LOG"', `/usr/sbin/${program}`, ...args];
    const env = { ...this.#env, LOG: join(this.dir, `${program}.log`) };
    this.#daemons.push(new Deno.Command("sh", { args: words, env, stdin: "null", stdout: "null" }).spawn());
  }

  async #try(program: string, ...args: string[]) {
    return await execute(program, args, { env: this.#env });
  }

  async #until(what: string, there: () => Promise<boolean>): Promise<void> {
    for (let i = 0; i < 300; i++) {
      if (await there()) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    const logs = ["munged", "slurmctld", "slurmd"].map((name) =>
      Deno.readTextFile(join(this.dir, `${name}.log`)).catch(() => "")
    );
    throw new Error(`Slurm has no ${what}:\n${(await Promise.all(logs)).join("\n")}`);
  }
}

function configuration(dir: string, [controller, node]: readonly number[]): string {
  const host = Deno.hostname().split(".")[0];
  return [
    "ClusterName=test",
    `SlurmctldHost=${host}(127.0.0.1)`,
    ...[`SlurmctldPort=${controller}`, `SlurmdPort=${node}`, "SlurmUser=root"],
    // A job that is put back into the queue may begin when its last credential is no longer valid.
    ...["AuthType=auth/munge", `AuthInfo=socket=${dir}/munge/socket,cred_expire=5`, "CredType=cred/munge"],
    ...[`StateSaveLocation=${dir}/state`, `SlurmdSpoolDir=${dir}/spool`],
    ...[`SlurmctldPidFile=${dir}/slurmctld.pid`, `SlurmdPidFile=${dir}/slurmd.pid`],
    ...["ProctrackType=proctrack/linuxproc", "TaskPlugin=task/none", "MpiDefault=none", "KillWait=1"],
    ...["SchedulerParameters=sched_interval=1", "ReturnToService=2"],
    ...["SelectType=select/cons_tres", "SelectTypeParameters=CR_CPU_Memory"],
    // As large as tools/cluster/array.sbatch asks for, whatever this machine has.
    "SlurmdParameters=config_overrides",
    `NodeName=${host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=262144`,
    "PartitionName=all Nodes=ALL Default=YES State=UP",
    "",
  ].join("\n");
}

/** Ports that nobody listens on now. */
function freePorts(count: number): number[] {
  const listeners = Array.from({ length: count }, () => Deno.listen({ hostname: "127.0.0.1", port: 0 }));
  for (const listener of listeners) listener.close();
  return listeners.map(({ addr }) => addr.port);
}
