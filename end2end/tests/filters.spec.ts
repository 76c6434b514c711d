// The address is the state: filters survive reload, Back and sharing.
import type { Api } from "./support/api.ts";
import { Dashboard } from "./support/dashboard.ts";
import { brokenZip } from "./support/files.ts";
import { expect, hydrated, open, test } from "./support/fixtures.ts";
import type { Server } from "./support/server.ts";

/** Two completed exports and one failed import. */
async function threeJobs(api: Api, server: Server): Promise<{ exports: string[]; failed: string }> {
  const exports = [await api.export({ format: "csv" }), await api.export({ format: "json" })];
  const failed = await api.import(server.file("broken.zip", brokenZip()));
  await Promise.all(exports.map((id) => api.until(id, "completed")));
  await api.until(failed, "failed");
  return { exports, failed };
}

test("an empty list says what will appear here, and offers to start something", async ({ page }) => {
  const ui = new Dashboard(page);
  await open(page, "/jobs");
  await expect(page.getByRole("heading", { level: 1, name: "Jobs" })).toBeVisible();
  await expect(page.getByText("Monitor background jobs and their progress")).toBeVisible();
  await expect(page.getByText(/appear.*export/i).first()).toBeVisible();
  await page.getByRole("button", { name: "New job" }).last().click();
  await expect(ui.newJob).toBeVisible();
});

test("the page is complete without a script", async ({ browser, api, server }) => {
  const { exports, failed } = await threeJobs(api, server);
  const context = await browser.newContext({ javaScriptEnabled: false, baseURL: server.url });
  await server.enter(context);
  const page = await context.newPage();
  const ui = new Dashboard(page);
  await page.goto(`/jobs/${failed}`);
  await expect(ui.rows).toHaveCount(3);
  await expect(ui.row(exports[0]!)).toContainText("Completed");
  await expect(ui.detail.getByRole("alert")).toContainText("VALIDATION");
  await context.close();
});

test("filters narrow the list, live in the address, and survive reload, Back and sharing", async ({ page, api, server }) => {
  const { exports, failed } = await threeJobs(api, server);
  const ui = new Dashboard(page);
  await open(page, "/jobs");
  await expect(ui.rows).toHaveCount(3);
  await expect(page.getByText("3 jobs", { exact: true })).toBeVisible();
  await expect(page.getByText("Filters active")).toBeHidden();

  await ui.status.selectOption({ label: "Failed" });
  await expect(page).toHaveURL(/[?&]status=failed/);
  await expect(ui.rows).toHaveCount(1);
  await expect(page.getByText("1 job", { exact: true })).toBeVisible();
  await expect(page.getByText("Filters active")).toBeVisible();

  await page.reload();
  await hydrated(page);
  await expect(ui.status).toHaveValue("failed");
  await expect(ui.rows).toHaveCount(1);
  await expect(ui.row(failed)).toBeVisible();

  await ui.status.selectOption("");
  await ui.type.selectOption("export");
  await expect(page).toHaveURL(/[?&]type=export/);
  await expect(ui.rows).toHaveCount(2);

  // A job opens within the filter, and Back leads back to it.
  await ui.row(exports[1]!).getByRole("link").click();
  await expect(page).toHaveURL(new RegExp(`/jobs/${exports[1]}\\?.*type=export`));
  await expect(ui.rows).toHaveCount(2);
  await page.goBack();
  await expect(page).toHaveURL(/\/jobs\?.*type=export/);
  await expect(ui.type).toHaveValue("export");
  await page.goBack();
  await expect(page).not.toHaveURL(/type=export/);
  await expect(ui.type).not.toHaveValue("export");

  // Somebody else opens the same address.
  const shared = await page.context().newPage();
  const theirs = new Dashboard(shared);
  await open(shared, `/jobs?status=completed&type=export`);
  await expect(theirs.rows).toHaveCount(2);
  await expect(theirs.status).toHaveValue("completed");
});

test("search, its clear button and Escape; changing a filter clears the selection", async ({ page, api, server }) => {
  const { exports, failed } = await threeJobs(api, server);
  const ui = new Dashboard(page);
  await open(page, `/jobs/${exports[0]}`);
  await ui.search.fill(failed);
  await expect(page).toHaveURL(new RegExp(`/jobs\\?q=${failed}`));
  await expect(ui.rows).toHaveCount(1);
  await expect(ui.row(failed)).toBeVisible();

  await ui.status.selectOption({ label: "Completed" });
  await expect(ui.rows).toHaveCount(0);
  await expect(page.getByText(/filters.*narrow/i)).toBeVisible();
  await ui.search.press("Escape");
  await expect(page).toHaveURL(/\/jobs$/);
  await expect(ui.search).toHaveValue("");
  await expect(ui.rows).toHaveCount(3);

  await ui.search.fill("no such job");
  await expect(ui.rows).toHaveCount(0);
  await page.getByRole("button", { name: "Clear all" }).first().click();
  await expect(ui.rows).toHaveCount(3);
  await expect(page.getByText("Filters active")).toBeHidden();
});

test("a list that is filtered stays right as jobs come and go", async ({ page, api, server }) => {
  await threeJobs(api, server);
  const ui = new Dashboard(page);
  await open(page, "/jobs?status=completed");
  await expect(ui.rows).toHaveCount(2);
  const id = await api.export({ format: "csv" });
  await api.until(id, "completed");
  await expect(ui.row(id)).toBeVisible();
  await expect(ui.rows).toHaveCount(3);
  await expect(page.getByText("3 jobs", { exact: true })).toBeVisible();
  const failing = await api.import(server.file("again.zip", brokenZip()));
  await api.until(failing, "failed");
  await expect(ui.rows).toHaveCount(3);
});

test("a job that does not exist is a page of its own", async ({ page, console }) => {
  console.allow(/404/);
  await open(page, "/jobs/01900000-0000-7000-8000-000000000000");
  await expect(page.getByText("does not exist").first()).toBeVisible();
});

test("the job pages also answer under /admin", async ({ page, api, server }) => {
  const { failed } = await threeJobs(api, server);
  const ui = new Dashboard(page);
  await open(page, "/admin/jobs?status=failed");
  await ui.row(failed).getByRole("link").click();
  await expect(page).toHaveURL(new RegExp(`/admin/jobs/${failed}`));
  await ui.expectStatus("Failed");
});
