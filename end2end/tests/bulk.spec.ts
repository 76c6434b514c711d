// Acting on many jobs: selecting, asking, doing, and what takes longer.
import type { Locator, Page } from "@playwright/test";
import type { Api } from "./support/api.ts";
import { Dashboard } from "./support/dashboard.ts";
import { brokenZip } from "./support/files.ts";
import { expect, open, test } from "./support/fixtures.ts";
import { check, noSidewaysScroll, themes, widths } from "./support/look.ts";

/** Exports that wait for tomorrow. */
async function waiting(api: Api, n: number): Promise<string[]> {
  const job = { type: "export", args: { format: "csv" }, delay: 86_400 };
  return (await api.post<{ ids: string[] }>("/api/jobs/bulk", Array(n).fill(job), 202)).ids;
}

class Bulk {
  constructor(readonly page: Page) {}

  get all(): Locator {
    return this.page.getByRole("checkbox", { name: "Select all" });
  }
  get bar(): Locator {
    return this.page.getByRole("group", { name: "Selected jobs" });
  }
  get chosen(): Locator {
    return this.bar.locator(".bulk-count");
  }
  button(name: string): Locator {
    return this.bar.getByRole("button", { name, exact: true });
  }
  box(row: Locator): Locator {
    return row.getByRole("checkbox", { name: /^Select Export #/ });
  }
  get progress(): Locator {
    return this.page.getByRole("dialog", { name: "Bulk action" });
  }
}

test("rows are selected one by one, in ranges and all; another filter lets go of them", async ({ page, api }) => {
  const [ui, bulk] = [new Dashboard(page), new Bulk(page)];
  await waiting(api, 6);
  await open(page, "/jobs");
  await expect(ui.rows).toHaveCount(6);
  await expect(bulk.bar).toBeHidden();
  await bulk.box(ui.rows.nth(1)).check();
  await expect(bulk.chosen).toHaveText("1 selected");
  await bulk.box(ui.rows.nth(4)).click({ modifiers: ["Shift"] });
  await expect(bulk.chosen).toHaveText("4 selected");
  await expect(bulk.all).toHaveJSProperty("indeterminate", true);
  await bulk.box(ui.rows.nth(2)).uncheck();
  await expect(bulk.chosen).toHaveText("3 selected");
  await bulk.all.check();
  await expect(bulk.chosen).toHaveText("6 selected");
  // Nothing of these can be retried, and the button says why.
  await expect(bulk.button("Retry")).toBeDisabled();
  await expect(bulk.button("Retry")).toHaveAttribute("title", /failed or dead/);
  // Those who hear the page are told, too.
  await expect(page.getByRole("status").filter({ hasText: "6 selected" })).toHaveCount(1);
  await ui.status.selectOption({ label: "Scheduled" });
  await expect(bulk.bar).toBeHidden();
  await expect(ui.rows).toHaveCount(6);
  // With the keyboard alone: into the list, down, and x.
  await page.getByRole("heading", { level: 1, name: "Jobs" }).click();
  const focused = ui.list.locator("a:focus");
  await page.keyboard.press("j");
  await expect(focused).toHaveCount(1);
  const first = await focused.getAttribute("id");
  await page.keyboard.press("x");
  await expect(bulk.chosen).toHaveText("1 selected");
  await page.keyboard.press("j");
  await expect(focused).not.toHaveId(first!);
  await page.keyboard.press("x");
  await expect(bulk.chosen).toHaveText("2 selected");
  await bulk.bar.getByRole("button", { name: "Clear selection" }).click();
  await expect(bulk.bar).toBeHidden();
  await expect(bulk.all).toBeFocused();
  // What can't be understood is not everything.
  await open(page, "/jobs?status=faild");
  await expect(page.getByText("faild")).toBeVisible();
  await expect(page.getByRole("checkbox")).toHaveCount(0);
});

test("the question gives the count and what is left out; the answer is told, and nothing happens without it", async ({
  page,
  api,
  server,
}) => {
  const [ui, bulk] = [new Dashboard(page), new Bulk(page)];
  const failed = [await api.import(server.file("a.zip", brokenZip())), await api.import(server.file("b.zip", brokenZip()))];
  await Promise.all(failed.map((id) => api.until(id, "failed")));
  const [later] = await waiting(api, 1);
  await open(page, "/jobs");
  await bulk.all.check();
  await bulk.button("Retry").click();
  await expect(ui.confirmation.getByRole("heading")).toHaveText("Retry 2 jobs?");
  await expect(ui.confirmation).toContainText("1 of the 3 selected stays as it is");
  await page.keyboard.press("Escape");
  await expect(ui.confirmation).toBeHidden();
  await expect(bulk.button("Retry")).toBeFocused();
  expect((await api.job(failed[0]!)).status).toBe("failed");

  await bulk.button("Retry").click();
  await ui.confirmation.getByLabel("Reason (optional)").fill("the disk is back");
  await ui.confirmation.getByRole("button", { name: "Retry 2 jobs" }).click();
  await expect(page.getByText("2 jobs were put back in the queue")).toBeVisible();
  await expect(bulk.bar).toBeHidden();
  await expect.poll(async () => (await api.detail(failed[1]!)).attempts.length).toBe(2);
  await Promise.all(failed.map((id) => api.until(id, "failed")));
  const log = await api.get<{ items: { reason: string; after: unknown }[] }>("/api/admin/audit-logs?action=job.bulk_retry");
  expect(log.items[0]).toMatchObject({ reason: "the disk is back", after: { total: 2, done: 2, refused: 0 } });

  await bulk.box(ui.row(later!)).check();
  await bulk.button("Delete").click();
  await expect(ui.confirmation.getByRole("heading")).toHaveText("Delete 1 job?");
  await expect(ui.confirmation).toContainText("cannot be undone");
  await ui.confirmation.getByRole("button", { name: "Delete 1 job" }).click();
  await expect(ui.row(later!)).toBeHidden();
  await expect(page.getByText("1 job was deleted")).toBeVisible();
  await expect(ui.rows).toHaveCount(2);
});

test("all that match are meant, loaded or not, and as many as were asked about", async ({ page, api }) => {
  const [ui, bulk] = [new Dashboard(page), new Bulk(page)];
  await waiting(api, 300);
  const done = await api.export({ format: "csv" });
  await api.until(done, "completed");
  await open(page, "/jobs");
  await expect(page.getByText("301 jobs", { exact: true })).toBeVisible();
  await bulk.all.check();
  await page.getByRole("button", { name: "Select all 301 matching" }).click();
  await expect(bulk.chosen).toHaveText("301 selected");
  await bulk.button("Cancel").click();
  await expect(ui.confirmation.getByRole("heading")).toHaveText("Cancel 300 jobs?");
  await expect(ui.confirmation).toContainText("completes its current operation first");
  await expect(ui.confirmation).toContainText("1 of the 301 selected stays as it is");
  await page.keyboard.press("Escape");
  await expect(bulk.button("Cancel")).toBeFocused();
  await bulk.button("Cancel").click();
  // Meanwhile there is one more: it was not asked about.
  const [late] = await waiting(api, 1);
  await ui.confirmation.getByRole("button", { name: "Cancel 300 jobs" }).click();
  await expect(page.getByText("300 jobs were asked to stop")).toBeVisible();
  await expect(bulk.all).toBeFocused();
  expect((await api.jobs("?status=cancelled")).total).toBe(300);
  expect((await api.job(late!)).status).toBe("scheduled");
});

test("more than a thousand are done by a batch, whose progress is shown and which goes on when that is closed", async ({
  page,
  api,
}) => {
  const [ui, bulk] = [new Dashboard(page), new Bulk(page)];
  await waiting(api, 2_500);
  await open(page, "/jobs?status=scheduled");
  await bulk.all.check();
  await page.getByRole("button", { name: "Select all 2,500 matching" }).click();
  await bulk.button("Delete").click();
  await ui.confirmation.getByRole("button", { name: "Delete 2,500 jobs" }).click();
  await expect(bulk.progress).toBeVisible();
  await expect(bulk.progress.getByText("Delete 2,500 jobs")).toBeVisible();
  const parts = bulk.progress.getByRole("list", { name: "Parts" }).getByRole("listitem");
  await expect(parts).toHaveCount(3);
  await expect(bulk.progress.getByText("3 of 3 parts ended")).toBeVisible({ timeout: 60_000 });
  await expect(bulk.progress.getByRole("progressbar", { name: "All parts" })).toHaveAttribute("aria-valuenow", "100");
  await expect(bulk.progress.getByRole("button", { name: "Cancel" })).toBeDisabled();
  expect((await api.jobs("?status=scheduled")).total).toBe(0);
  await parts.last().getByRole("link").click();
  await expect(bulk.progress).toBeHidden();
  await expect(ui.detail.getByRole("heading", { name: /Bulk action #/ })).toBeVisible();
  await ui.expectStatus("Completed");
  await expect(ui.detail).toContainText(/"?done"?:? ?500/);
});

for (const theme of themes) {
  for (const width of widths) {
    test.describe(`in ${theme} at ${width} px`, () => {
      test.use({ colorScheme: theme, contextOptions: { reducedMotion: "reduce" } });

      test("selection, question and progress look right and pass axe", async ({ page, api }) => {
        await page.setViewportSize({ width, height: width > 600 ? 900 : 780 });
        const [ui, bulk] = [new Dashboard(page), new Bulk(page)];
        const look = async (name: string) => {
          await check(page, name);
          await noSidewaysScroll(page, name);
          await page.screenshot({ path: `test-results/screens/bulk-${name}-${theme}-${width}.png` });
        };
        await waiting(api, 1_100);
        await open(page, "/jobs");
        await bulk.box(ui.rows.nth(1)).check();
        await bulk.box(ui.rows.nth(2)).check();
        await look("some");
        await bulk.all.check();
        await look("loaded");
        await page.getByRole("button", { name: "Select all 1,100 matching" }).click();
        await look("matching");
        await bulk.button("Cancel").click();
        await expect(ui.confirmation).toBeVisible();
        await look("question");
        await ui.confirmation.getByRole("button", { name: "Cancel 1,100 jobs" }).click();
        await expect(bulk.progress.getByText("2 of 2 parts ended")).toBeVisible({ timeout: 60_000 });
        await look("progress");
      });
    });
  }
}
