// From the page to the finished work: export, import, and what can be done with a job.
import { createHash } from "node:crypto";
import type { Job } from "./support/api.ts";
import { content, Dashboard, shortId } from "./support/dashboard.ts";
import { brokenZip, header, parseCsv, row } from "./support/files.ts";
import { expect, open, test } from "./support/fixtures.ts";

test.describe("with 20,000 events", () => {
  test.use({ events: 20_000 });

  test("an export is started from the page, watched, downloaded, and holds what the database holds", async ({ page, api }) => {
    const ui = new Dashboard(page);
    await open(page, "/jobs");
    const dialog = await ui.beginNewJob("Export");
    await dialog.getByRole("combobox", { name: "Risk level" }).selectOption("high");
    const id = await ui.startNewJob();

    await expect(ui.detail.getByRole("heading", { name: `Export #${shortId(id)}` })).toBeVisible();
    await ui.expectStatus("Completed");
    await expect(ui.row(id)).toContainText("Completed");
    await expect(ui.row(id).getByRole("link")).toHaveAttribute("aria-current", /true|page/);

    const { artifacts, result } = await api.detail(id);
    expect(artifacts).toHaveLength(1);
    const artifact = artifacts[0]!;
    const downloading = page.waitForEvent("download");
    await ui.download(artifact.name).click();
    const download = await downloading;
    expect(download.suggestedFilename()).toBe(artifact.name);
    const text = await content(download);
    expect(Buffer.byteLength(text)).toBe(artifact.size);
    expect(createHash("sha256").update(text).digest("hex")).toBe(artifact.sha256);
    expect(result).toMatchObject({ bytes: artifact.size, sha256: artifact.sha256 });

    // The same events by another way out of the database.
    const other = await api.export({ format: "ndjson" });
    await api.until(other, "completed");
    const otherFile = (await api.detail(other)).artifacts[0]!;
    const events = (await api.artifact(other, otherFile.name))
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(events).toHaveLength(20_000);
    const wanted = events.filter((event) => event["risk_level"] === "high");
    const [head, ...rows] = parseCsv(text);
    expect(head?.join(",")).toBe(header);
    expect(wanted.length).toBeGreaterThan(0);
    expect(rows.map((cells) => cells[0])).toEqual(wanted.map((event) => event["id"]));
    expect(rows.map((cells) => cells[1])).toEqual(wanted.map((event) => event["camera_id"]));
    expect(result).toMatchObject({ rows: wanted.length });
  });

  test("an export that matches nothing completes with 0 rows and says so", async ({ page }) => {
    const ui = new Dashboard(page);
    await open(page, "/jobs");
    const dialog = await ui.beginNewJob("Export");
    await dialog.getByRole("textbox", { name: "Camera" }).fill("no-such-camera");
    await ui.startNewJob();
    await ui.expectStatus("Completed");
    await expect(ui.detail).toContainText(/0 rows/);
  });

  test("run again makes a copy; delete asks first and removes the job", async ({ page, api }) => {
    const ui = new Dashboard(page);
    const first = await api.export({ format: "csv", risk_level: "critical" });
    await api.until(first, "completed");
    await open(page, `/jobs/${first}`);
    await ui.action("Run again").click();
    await expect(page).not.toHaveURL(new RegExp(first));
    await page.waitForURL(/\/jobs\/[0-9a-f-]{36}/);
    const copy = ui.id;
    await ui.expectStatus("Completed");
    await expect(ui.rows).toHaveCount(2);

    await ui.action("Delete").click();
    await expect(ui.confirmation).toContainText("cannot be undone");
    await page.keyboard.press("Escape");
    await expect(ui.confirmation).toBeHidden();
    await expect(ui.action("Delete")).toBeFocused();
    await ui.action("Delete").click();
    await ui.confirmation.getByRole("button", { name: /^Delete/ }).click();
    await expect(page).toHaveURL(/\/jobs$/);
    await expect(ui.rows).toHaveCount(1);
    await expect(ui.row(copy)).toBeHidden();
    expect((await api.jobs()).items.map((job) => job.id)).toEqual([first]);
  });
});

test("an import from the page keeps the good rows and lists the bad ones; again, it duplicates nothing", async ({
  page,
  server,
  api,
}) => {
  const ui = new Dashboard(page);
  const path = server.file(
    "events.csv",
    [
      header,
      row("evt-1"),
      row("evt-2", { risk: "extreme" }),
      row("evt-3", { at: "yesterday" }),
      "evt-4,too,few",
      row("evt-5", { camera: "cam-02" }),
      row("evt-6"),
    ].join("\n"),
  );
  await open(page, "/jobs");
  for (const [imported, duplicates] of [
    [3, 0],
    [0, 3],
  ]) {
    const dialog = await ui.beginNewJob("Import");
    await dialog.locator("input[type=file]").setInputFiles(path);
    await ui.startNewJob();
    await ui.expectStatus("Completed");
    const { result } = await api.detail(ui.id);
    expect(result).toMatchObject({ rows: 6, imported, duplicates, rejected: 3 });
    await expect(ui.download("rejected-rows.csv")).toBeVisible();
    for (const [line, reason] of [
      [3, "extreme"],
      [4, "yesterday"],
      [5, ""],
    ]) {
      await expect(ui.lines.getByText(new RegExp(`line ${line}\\b.*${reason}`)).first()).toBeVisible();
    }
  }
});

test("a broken ZIP fails with a clear error; retry says how many and runs it again", async ({ page, server, api }) => {
  const ui = new Dashboard(page);
  const id = await api.import(server.file("events.zip", brokenZip()));
  await api.until(id, "failed");
  await open(page, `/jobs/${id}`);
  await ui.expectStatus("Failed");
  const alert = ui.detail.getByRole("alert");
  await expect(alert).toContainText("VALIDATION");
  await expect(alert).toContainText(/events\.csv|ZIP/i);

  await ui.action("Retry").click();
  await expect(ui.confirmation).toContainText("1 job");
  await ui.confirmation.getByRole("button", { name: /^Retry/ }).click();
  await expect.poll(async () => (await api.job(id)).attempt).toBe(2);
  await api.until(id, "failed");
  await ui.expectStatus("Failed");
  expect((await api.detail(id)).attempts).toHaveLength(2);
});

test("a retry takes other args and a delay, and says what is wrong with them without losing them", async ({ page, api, server, console }) => {
  console.allow(/status of 400/);
  const ui = new Dashboard(page);
  const id = await api.import(server.file("events.zip", brokenZip()));
  await api.until(id, "failed");
  await open(page, `/jobs/${id}`);
  await expect(ui.detail.getByRole("link", { name: "All jobs with this error" })).toHaveAttribute("href", /error=[0-9a-f]{16}/);
  await ui.action("Retry").click();
  await ui.confirmation.getByText("Change args or wait first").click();
  const args = ui.confirmation.getByRole("textbox", { name: "Input args" });
  await expect(args).toHaveValue(/"upload"/);
  const was = await args.inputValue();
  const confirm = ui.confirmation.getByRole("button", { name: /^Retry/ });

  await args.fill("{ not json");
  await confirm.click();
  await expect(ui.confirmation.getByRole("alert").filter({ hasText: "not JSON" })).toBeVisible();
  await expect(args).toHaveValue("{ not json");

  const other = JSON.parse(was) as Record<string, unknown>;
  await args.fill(JSON.stringify({ ...other, colour: "red" }));
  await confirm.click();
  await expect(ui.confirmation.getByRole("alert").filter({ hasText: "colour" })).toBeVisible();
  expect((await api.job(id)).status).toBe("failed");

  await args.fill(JSON.stringify({ ...other, format: "csv" }));
  await ui.confirmation.getByRole("spinbutton", { name: "Delay in seconds" }).fill("3600");
  await confirm.click();
  await expect(ui.confirmation).toBeHidden();
  await ui.expectStatus("Scheduled");
  expect((await api.detail(id)).args).toMatchObject({ format: "csv" });
});

test("a job that starts while the list is fetched stays live when the answer is too old to have it", async ({ page, api }) => {
  const ui = new Dashboard(page);
  let id: string | undefined;
  await page.route("**/rpc/list_jobs*", async (route) => {
    const answer = await route.fetch();
    if (id === undefined) {
      id = (await api.post<Job>("/api/jobs", { type: "export", args: { format: "csv" }, delay: 3600 }, 202)).id;
      await expect(ui.row(id)).toContainText("Scheduled");
    }
    await route.fulfill({ response: answer });
  });
  const answered = page.waitForResponse("**/rpc/list_jobs*");
  await open(page, "/jobs");
  await (await answered).finished();
  await page.unrouteAll({ behavior: "wait" });
  await api.post(`/api/jobs/${id}/cancel`, {}, 200);
  await expect(ui.row(id!)).toContainText("Cancelled");
});

test.describe("while a long job runs", () => {
  test.use({ events: 300_000 });

  test("cancel lets it finish its step and ends it cancelled", async ({ page, api }) => {
    const ui = new Dashboard(page);
    const id = await api.export({ format: "xlsx" });
    await open(page, `/jobs/${id}`);
    await ui.action("Cancel").click();
    await expect(ui.confirmation).toContainText("current operation");
    await ui.confirmation.getByRole("button", { name: /^Cancel job/ }).click();
    await ui.expectStatus("Cancelled");
    await expect(ui.row(id)).toContainText("Cancelled");
    expect((await api.detail(id)).artifacts).toEqual([]);
  });

  test("abort warns, and ends it at once", async ({ page, api }) => {
    const ui = new Dashboard(page);
    const id = await api.export({ format: "xlsx" });
    await open(page, `/jobs/${id}`);
    await ui.action("Abort").click();
    await expect(ui.confirmation).toContainText("WARNING");
    await expect(ui.confirmation).toContainText(/inconsistent|inconsistency/);
    await ui.confirmation.getByRole("button", { name: /^Abort/ }).click();
    await ui.expectStatus("Cancelled");
    expect((await api.detail(id)).attempts.at(-1)?.outcome).toBe("aborted");
  });

  test("its progress is shown live, in the list and in the detail", async ({ page, api }) => {
    const ui = new Dashboard(page);
    await open(page, "/jobs");
    const id = await api.export({ format: "xlsx" });
    await ui.row(id).getByRole("link").click();
    await ui.expectStatus(/Running \(\d+%\)/);
    await expect(ui.detail.getByRole("progressbar").first()).toHaveAttribute("aria-valuenow", /[1-9]/);
    await expect(ui.row(id).getByRole("progressbar")).toBeVisible();
    await ui.expectStatus("Completed");
    await expect(ui.row(id)).toContainText("Completed");
    await expect(ui.row(id)).toHaveCount(1);
  });
});
