// A real OpenID provider that speaks TLS (provider.mjs), with a certificate of its own.
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { request } from "@playwright/test";
import { makeFolder, OWN_URL, remove } from "./server.ts";

const run = promisify(execFile);

export class Provider {
  private constructor(
    readonly issuer: string,
    readonly certificate: string,
    readonly folder: string,
    readonly process: ChildProcess,
  ) {}

  static async start(): Promise<Provider> {
    const folder = makeFolder();
    const [key, certificate] = [join(folder, "key.pem"), join(folder, "certificate.pem")];
    const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    const whose = ["-subj", "/CN=provider", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"];
    await run("openssl", ["req", "-x509", ...curve, ...whose, "-keyout", key, "-out", certificate]);
    const program = resolve(import.meta.dirname, "../../provider.mjs");
    // It ends when its standard input does, and so with the tests, however they end.
    const child = spawn("node", [program, "ES256", key, certificate], { stdio: ["pipe", "pipe", "inherit"] });
    const [issuer] = (await once(createInterface(child.stdout), "line")) as [string];
    return new Provider(issuer, certificate, folder, child);
  }

  /** What a server that people sign in to by it is told. */
  get settings(): Record<string, string> {
    return {
      PUBLIC_URL: OWN_URL,
      SSL_CERT_FILE: this.certificate,
      OIDC_ISSUER: this.issuer,
      OIDC_CLIENT_ID: "windlass",
      OIDC_CLIENT_SECRET: "a secret of 32 characters & more",
      OIDC_NAME: "Example ID",
      OIDC_SCOPES: "openid,email,profile,groups",
      OIDC_ROLES: "ops=admin, dev=manager",
    };
  }

  /** Says who somebody is from now on; their address is NAME@example.org. */
  async person(name: string, ...groups: string[]): Promise<void> {
    const context = await request.newContext({ ignoreHTTPSErrors: true });
    const data = { email: `${name}@example.org`, email_verified: true, name, groups };
    const answer = await context.put(`${this.issuer}/people/${name}`, { data });
    if (answer.status() !== 204) throw new Error(`the provider answered ${answer.status()}`);
    await context.dispose();
  }

  /** Ends it: from here on nobody answers at its address. */
  async stop(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = once(this.process, "exit");
    this.process.kill("SIGKILL");
    await ended;
  }

  async dispose(): Promise<void> {
    await this.stop();
    remove(this.folder);
  }
}
