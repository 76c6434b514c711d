// The real release server: started on a free port with a data folder of its own, stopped with SIGTERM, killed with
// SIGKILL and started again in the same place.
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { expect, type BrowserContext } from "@playwright/test";

const binary = process.env["WINDLASS"] ?? resolve(import.meta.dirname, "../../../target/release/windlass");
const run = promisify(execFile);

/** Who the server's first admin is. */
export const admin: Person = { email: "admin@example.org", password: "a long enough password" };

export interface Person {
  email: string;
  password: string;
}

/** A folder that nobody else uses, removed by `remove`. */
export function makeFolder(): string {
  return mkdtempSync(join(tmpdir(), "windlass-e2e-"));
}

export function remove(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
}

/** In a server's settings: its own address, which is known when it starts. */
export const OWN_URL = "{own url}";

/** Nothing of the machine's own settings reaches the server. */
function environment(settings: Record<string, string>): NodeJS.ProcessEnv {
  return { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "", RUST_BACKTRACE: "1", ...settings };
}

/** Runs a `windlass` command on a data folder and answers with what it printed. */
export async function windlass(data: string, ...args: string[]): Promise<string> {
  mkdirSync(data, { recursive: true });
  const { stdout } = await run(binary, args, {
    cwd: data,
    env: environment({ DATA_DIR: data }),
    maxBuffer: 1 << 28,
  });
  return stdout;
}

async function freePort(): Promise<number> {
  const probe = createServer();
  probe.listen(0, "127.0.0.1");
  await once(probe, "listening");
  const address = probe.address();
  probe.close();
  await once(probe, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

export class Server {
  #process: ChildProcess | undefined;
  #output = "";

  private constructor(
    readonly folder: string,
    readonly port: number,
    readonly settings: Record<string, string>,
  ) {}

  /** Starts a server; `seed` is a data folder whose content it begins with. */
  static async start(settings: Record<string, string> = {}, seed?: string): Promise<Server> {
    const server = new Server(makeFolder(), await freePort(), settings);
    if (seed) cpSync(seed, server.data, { recursive: true });
    await server.start();
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get data(): string {
    return join(this.folder, "data");
  }

  /** What the server has printed so far, over all its starts. */
  get output(): string {
    return this.#output;
  }

  /** Starts the process and waits until it is ready for requests. */
  async start(): Promise<void> {
    const child = spawn(binary, ["serve"], {
      cwd: this.folder,
      env: environment({
        LISTEN: `127.0.0.1:${this.port}`,
        DATA_DIR: this.data,
        ADMIN_EMAIL: admin.email,
        ADMIN_PASSWORD: admin.password,
        ...Object.fromEntries(Object.entries(this.settings).map(([key, value]) => [key, value === OWN_URL ? this.url : value])),
      }),
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#process = child;
    const keep = (chunk: Buffer) => (this.#output += chunk.toString());
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    await expect
      .poll(
        async () => {
          if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}:\n${this.#output}`);
          return fetch(`${this.url}/readyz`).then((answer) => answer.status, () => 0);
        },
        { message: "the server becomes ready", timeout: 60_000, intervals: [25, 50, 100] },
      )
      .toBe(200);
  }

  /** Signs somebody in and answers with the cookie, `name=value`. */
  async signIn({ email, password }: Person = admin): Promise<string> {
    const answer = await fetch(`${this.url}/session`, {
      method: "POST",
      headers: { origin: this.url },
      body: new URLSearchParams({ email, password, next: "/jobs" }),
      redirect: "manual",
    });
    const cookie = answer.headers.getSetCookie()[0]?.split(";")[0];
    if (answer.status !== 303 || !cookie) {
      throw new Error(`signing in: ${answer.status} ${answer.headers.get("location")} ${await answer.text()}`);
    }
    return cookie;
  }

  /** Signs somebody in in a browser. */
  async enter(context: BrowserContext, person: Person = admin): Promise<void> {
    const [name = "", value = ""] = (await this.signIn(person)).split("=", 2);
    await context.addCookies([{ name, value, url: this.url, httpOnly: true, sameSite: "Lax" }]);
  }

  /** SIGTERM: lets running jobs end. Answers with the exit code. */
  async stop(): Promise<number | null> {
    return this.#end("SIGTERM");
  }

  /** SIGKILL: as when the power goes. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  async #end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null;
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
    return child.exitCode;
  }

  /** Ends the server, whatever it does, and removes its folder. */
  async dispose(): Promise<void> {
    await this.#end("SIGKILL");
    remove(this.folder);
  }

  /** Writes a file into the server's folder and answers with its path. */
  file(name: string, content: string | Buffer): string {
    const path = join(this.folder, name);
    writeFileSync(path, content);
    return path;
  }
}
