// The log viewer: what it shows is what was logged, in order, whatever happens to the connection.
import type { Page } from "@playwright/test";
import type { LogLine } from "./support/api.ts";
import { Dashboard } from "./support/dashboard.ts";
import { expect, open, test } from "./support/fixtures.ts";

/** Numbers of the lines that the page's WebSockets bring, over all connections, in order of arrival. */
function collectNumbers(page: Page): number[] {
  const numbers: number[] = [];
  page.on("websocket", (socket) => {
    socket.on("framereceived", ({ payload }) => {
      const message = JSON.parse(payload.toString()) as { type: string; lines?: LogLine[] };
      numbers.push(...(message.lines ?? []).map((line) => line.n));
    });
  });
  return numbers;
}

const upTo = (last: number) => Array.from({ length: last }, (_, i) => i + 1);

test.describe("a long export", () => {
  test.use({ events: 300_000 });

  test("the viewer outlives the server's death without a gap or a repeat", async ({ page, server, api, console }) => {
    test.setTimeout(180_000);
    console.allowOutage();
    const ui = new Dashboard(page);
    const numbers = collectNumbers(page);
    const id = await api.export({ format: "xlsx" });
    await open(page, `/jobs/${id}`);
    await expect(ui.connection).toContainText("Live");
    await expect.poll(() => numbers.length).toBeGreaterThan(1);

    await server.kill();
    await expect(ui.connection).toContainText("Reconnecting");
    const before = numbers.length;
    await server.start();
    await expect(ui.connection).toContainText(/Live|Offline/, { timeout: 60_000 });

    // The job runs again from its start, and its log goes on.
    await api.until(id, "completed");
    await ui.expectStatus("Completed");
    const stored = await api.logs(id);
    expect(stored.map((line) => line.n)).toEqual(upTo(stored.length));
    expect(stored.at(-1)?.attempt).toBe(2);
    expect(stored.length).toBeGreaterThan(before);
    await expect.poll(() => numbers.length).toBe(stored.length);
    expect(numbers).toEqual(upTo(stored.length));
    await expect(ui.logs).toContainText(`${stored.length.toLocaleString("en")} of ${stored.length.toLocaleString("en")} logs`);
    await expect(ui.lines).toContainText(stored.at(-1)!.message.slice(0, 60));
    await expect(ui.connection).toContainText("Offline");
  });
});

test.describe("a finished job", () => {
  test.use({ events: 5_000 });

  test("shows its stored log; levels and search narrow it", async ({ page, api }) => {
    const ui = new Dashboard(page);
    // A warning (nothing matches), and lines of other levels.
    const id = await api.export({ format: "csv", camera_id: "no-such-camera" });
    await api.until(id, "completed");
    const stored = await api.logs(id);
    const warnings = stored.filter((line) => line.level === "warning" || line.level === "error");
    expect(warnings.length).toBeGreaterThan(0);

    await open(page, `/jobs/${id}`);
    await expect(ui.logs.getByRole("heading", { name: "Job Logs" })).toBeVisible();
    await expect(ui.logs).toContainText(`${stored.length} of ${stored.length} logs`);
    await expect(ui.connection).toContainText("Offline");
    await expect(ui.lines).toContainText(/\d\d:\d\d:\d\d/);

    await ui.logs.getByRole("combobox", { name: "Minimum level" }).selectOption({ label: "Warning" });
    await expect(ui.logs).toContainText(`${warnings.length} of ${stored.length} logs`);
    await ui.logs.getByRole("combobox", { name: "Minimum level" }).selectOption({ label: "All levels" });
    await ui.logs.getByRole("searchbox", { name: "Search logs" }).fill("surely nothing says this");
    await expect(ui.logs).toContainText(`0 of ${stored.length} logs`);
    await ui.logs.getByRole("searchbox", { name: "Search logs" }).press("Escape");
    await expect(ui.logs).toContainText(`${stored.length} of ${stored.length} logs`);

    const follow = ui.logs.getByRole("button", { name: "Auto-scroll" });
    await expect(follow).toHaveAttribute("aria-pressed", "true");
    await follow.click();
    await expect(follow).toHaveAttribute("aria-pressed", "false");

    const downloading = page.waitForEvent("download");
    await ui.logs.getByRole("link", { name: /Download/ }).click();
    const path = await (await downloading).path();
    const { readFile } = await import("node:fs/promises");
    expect((await readFile(path, "utf8")).trim().split("\n")).toHaveLength(stored.length);

    await ui.logs.getByRole("button", { name: /Clear/ }).click();
    await expect(ui.logs).toContainText("0 of 0 logs");
  });
});
