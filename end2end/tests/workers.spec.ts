// A worker outside of the binary, in another language: what it declares is in the dashboard as any kind is, and what people do
// there reaches it.
import type { Page } from "@playwright/test";
import type { Run } from "../../clients/node/windlass-worker.mjs";
import { JobError, work } from "../../clients/node/windlass-worker.mjs";
import type { Api } from "./support/api.ts";
import { Dashboard } from "./support/dashboard.ts";
import { expect, open, test } from "./support/fixtures.ts";
import { check, noSidewaysScroll, themes, widths } from "./support/look.ts";

const SCHEMA = {
  type: "object",
  required: ["url"],
  additionalProperties: false,
  properties: {
    url: { type: "string", title: "Address", description: "Where the picture lies.", minLength: 3 },
    width: { type: "integer", title: "Width", minimum: 16, maximum: 4096, default: 640 },
    password: { type: "string", title: "Password", "x-secret": true },
  },
};

/** Looks at the page in both themes and widths, and leaves it wide. */
async function look(page: Page, what: string): Promise<void> {
  for (const theme of themes) {
    await page.emulateMedia({ colorScheme: theme });
    for (const width of widths) {
      await page.setViewportSize({ width, height: width > 1000 ? 900 : 740 });
      await check(page, `${what}, ${theme}, ${width}`);
      await noSidewaysScroll(page, what);
      await page.screenshot({ path: `test-results/screens/${what.replaceAll(" ", "-")}-${theme}-${width}.png` });
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1440, height: 900 });
}

/** Starts a worker that does this, with a token of its own. */
async function resizer(api: Api, run: (job: Run) => Promise<unknown>) {
  const { secret } = await api.post<{ secret: string }>("/api/tokens", { name: "resizer", scopes: ["worker"] }, 201);
  return work({
    url: api.url,
    token: secret,
    name: "resizer",
    slots: 2,
    warn: () => {},
    kinds: [
      {
        name: "images.resize",
        description: "Makes an image smaller. Run twice, it writes the same file twice.",
        args_schema: SCHEMA,
        policy: { max_attempts: 2, base_ms: 100, cap_ms: 100 },
        checkpoints: true,
        run,
      },
    ],
  });
}

test("a kind of a worker outside is started by its form and shown as it runs", async ({ page, api, console }) => {
  // Two pages are looked at, each in four ways.
  test.slow();
  console.allow(/400 \(Bad Request\)/);
  const ui = new Dashboard(page);
  let go = (): void => {};
  const gate = new Promise<void>((resolve) => (go = resolve));
  const worker = await resizer(api, async (job) => {
    await job.progress(1, 4, "Loading the picture");
    await job.log(`from ${job.args["url"]} with ${job.args["password"]}`);
    await job.log("It has no colour profile", "warning");
    await gate;
    await job.progress(4, 4, "Writing");
    return { width: job.args["width"], bytes: 1234 };
  });
  await open(page, "/jobs");
  await page.getByRole("main").getByRole("button", { name: "New job" }).first().click();
  await ui.newJob.getByRole("combobox", { name: "Job type" }).selectOption({ label: "Images: resize" });
  await expect(ui.newJob).toContainText("Makes an image smaller.");
  // What the schema does not take is said at its field.
  await ui.newJob.getByRole("textbox", { name: "Address" }).fill("x");
  await ui.newJob.getByRole("button", { name: "Start job" }).click();
  await expect(ui.newJob.getByText(/shorter than 3/)).toBeVisible();
  await ui.newJob.getByRole("textbox", { name: "Address" }).fill("http://a.example/cat.png");
  await ui.newJob.getByLabel("Password").fill("correct-horse-battery");
  await look(page, "worker form");
  const id = await ui.startNewJob();
  await ui.expectStatus(/Running/);
  await expect(ui.detail).toContainText("25%");
  await expect(ui.detail).toContainText("Loading the picture");
  await expect(ui.detail).toContainText("resizer:");
  await expect(ui.lines).toContainText("from http://a.example/cat.png with ••••••");
  await expect(ui.lines).toContainText("It has no colour profile");
  await look(page, "worker job");
  go();
  await ui.expectStatus("Completed");
  await expect(ui.detail).toContainText("1234");
  const detail = await api.detail(id);
  expect(detail.result).toEqual({ width: 640, bytes: 1234 });
  expect(JSON.stringify(detail)).not.toContain("correct-horse");
  // It is among the types that the list can be narrowed to.
  await ui.type.selectOption({ label: "Images: resize" });
  await expect(ui.rows).toHaveCount(1);
  worker.stop();
  await worker.ended;
});

test("Pause, Resume and Cancel reach a worker outside, and its errors are shown", async ({ page, api }) => {
  const ui = new Dashboard(page);
  const began: unknown[] = [];
  const worker = await resizer(api, async (job) => {
    began.push(job.checkpoint ?? null);
    if (job.args["url"] === "nowhere") throw new JobError("NOT_FOUND", "There is no picture there");
    for (;;) {
      job.signal.throwIfAborted();
      if (job.pausing) job.release({ at: began.length });
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  });
  const job = (url: string) => api.post<{ id: string }>("/api/jobs", { type: "images.resize", args: { url } }, 202);
  const { id } = await job("http://a.example/long.png");
  await open(page, `/jobs/${id}`);
  await ui.expectStatus("Running");
  await ui.action("Pause").click();
  await ui.expectStatus("Paused");
  await ui.action("Resume").click();
  await ui.expectStatus("Running");
  await ui.action("Cancel").click();
  await ui.confirmation.getByRole("button", { name: /Cancel job/ }).click();
  await ui.expectStatus("Cancelled");
  expect(began).toEqual([null, { at: 1 }]);
  const wrong = await job("nowhere");
  await open(page, `/jobs/${wrong.id}`);
  await ui.expectStatus("Failed");
  await expect(ui.detail.getByRole("alert")).toContainText("There is no picture there");
  await expect(ui.detail.getByRole("alert")).toContainText("NOT_FOUND");
  worker.stop();
  await worker.ended;
});

test("a worker that is told to stop lets its jobs end, and gives back those that can go on", async ({ api }) => {
  let ran = 0;
  const first = await resizer(api, async (job) => {
    ran += 1;
    while (!job.pausing) await new Promise((resolve) => setTimeout(resolve, 20));
    job.release({ done: 7 });
  });
  const { id } = await api.post<{ id: string }>("/api/jobs", { type: "images.resize", args: { url: "http://a.example/" } }, 202);
  await expect.poll(() => ran).toBe(1);
  first.stop();
  await first.ended;
  expect((await api.job(id)).status).toBe("pending");
  const second = await resizer(api, async (job) => job.checkpoint);
  await expect.poll(async () => (await api.job(id)).status).toBe("completed");
  expect((await api.detail(id)).result).toEqual({ done: 7 });
  second.stop();
  await second.ended;
});

test("a token for a worker is made by an admin on the account page", async ({ page, api }) => {
  await open(page, "/account");
  await page.getByRole("button", { name: "New token" }).click();
  const dialog = page.getByRole("dialog", { name: "New token" });
  await dialog.getByRole("textbox", { name: "Name" }).fill("resizer");
  await dialog.getByRole("checkbox", { name: /^jobs:read/ }).uncheck();
  await dialog.getByRole("checkbox", { name: /^worker/ }).check();
  // A box stands beside what it is for.
  const [box, words] = await Promise.all([
    dialog.getByRole("checkbox", { name: /^worker/ }).boundingBox(),
    dialog.getByText("Run jobs as a worker outside of Windlass").boundingBox(),
  ]);
  expect(box!.x + box!.width).toBeLessThanOrEqual(words!.x);
  await look(page, "worker token");
  await dialog.getByRole("button", { name: "Make token" }).click();
  await expect(dialog.getByText("This is the only time")).toBeVisible();
  await dialog.getByRole("button", { name: "Done" }).click();
  await expect(page.getByRole("list", { name: "API tokens" })).toContainText("resizer");
  expect((await api.get<{ scopes: string[] }[]>("/api/me/tokens"))[0]?.scopes).toEqual(["worker"]);
});
