import { test as base, expect, type BrowserContext, type Page } from "@playwright/test";
import { join } from "node:path";
import { Api } from "./api.ts";
import { makeFolder, remove, Server, windlass } from "./server.ts";

/** What the browser's console may say without failing the test. */
export class Console {
  readonly #allowed: RegExp[] = [];
  readonly seen: string[] = [];

  /** Messages that match are expected from now on, and were until now. */
  allow(...patterns: RegExp[]): void {
    this.#allowed.push(...patterns);
  }

  /** The server goes away and comes back: the browser reports every connection that breaks. */
  allowOutage(): void {
    this.allow(/net::ERR_/, /WebSocket connection to/, /Failed to load resource/, /EventSource/, /Failed to fetch/);
  }

  get unexpected(): string[] {
    return this.seen.filter((text) => !this.#allowed.some((pattern) => pattern.test(text)));
  }

  watch(context: BrowserContext): void {
    context.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") {
        this.seen.push(`${message.type()}: ${message.text()} (${message.location().url})`);
      }
    });
    context.on("weberror", (error) => this.seen.push(`page error: ${error.error().stack ?? error.error().message}`));
  }
}

interface Options {
  /** Camera events in the database when the server starts. */
  events: number;
  /** Settings of the server, as environment variables. */
  settings: Record<string, string>;
  /** Whether the browser is signed in, as the admin. */
  signedIn: boolean;
}

interface Fixtures {
  server: Server;
  api: Api;
  console: Console;
}

interface WorkerFixtures {
  /** A data folder with this many events, made once per worker. */
  seeded: (events: number) => Promise<string>;
}

export const test = base.extend<Options & Fixtures, WorkerFixtures>({
  events: [0, { option: true }],
  settings: [{}, { option: true }],
  signedIn: [true, { option: true }],

  seeded: [
    async ({}, use) => {
      const folder = makeFolder();
      const made = new Map<number, string>();
      await use(async (events) => {
        let data = made.get(events);
        if (!data) {
          data = join(folder, String(events));
          await windlass(data, "demo", "--events", String(events), "--seed", "7");
          made.set(events, data);
        }
        return data;
      });
      remove(folder);
    },
    { scope: "worker", timeout: 120_000 },
  ],

  server: async ({ events, settings, seeded }, use, info) => {
    const server = await Server.start(settings, events > 0 ? await seeded(events) : undefined);
    await use(server);
    if (info.status !== info.expectedStatus) {
      await info.attach("server output", { body: server.output, contentType: "text/plain" });
    }
    await server.dispose();
  },

  baseURL: async ({ server }, use) => use(server.url),

  api: async ({ server }, use) => use(new Api(server.url, await server.signIn())),

  console: async ({}, use) => use(new Console()),

  context: async ({ context, console, server, signedIn }, use) => {
    console.watch(context);
    if (signedIn) await server.enter(context);
    await use(context);
    expect(console.unexpected, "errors and warnings in the browser's console").toEqual([]);
  },
});

export { expect };

/** Waits until the page has come alive. */
export async function hydrated(page: Page): Promise<void> {
  await expect(page.locator("body[data-hydrated=true]")).toBeAttached();
}

/** Opens a page and waits until it has come alive. */
export async function open(page: Page, path: string): Promise<void> {
  await page.goto(path);
  await hydrated(page);
}
