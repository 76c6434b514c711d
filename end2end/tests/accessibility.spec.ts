// Accessibility by axe and by keyboard, in both themes, from a phone to a wide screen; and pictures of each page.
import type { Page } from "@playwright/test";
import { Dashboard } from "./support/dashboard.ts";
import { brokenZip, header, row } from "./support/files.ts";
import { expect, open, test } from "./support/fixtures.ts";
import { check, noSidewaysScroll, themes, widths } from "./support/look.ts";

for (const theme of themes) {
  test.describe(`in ${theme}`, () => {
    test.use({ colorScheme: theme, events: 5_000, contextOptions: { reducedMotion: "reduce" } });

    test("every page and dialog passes axe", async ({ page, api, server }) => {
      test.setTimeout(180_000);
      const ui = new Dashboard(page);
      await open(page, "/jobs");
      await check(page, "the empty list");

      const done = await api.export({ format: "csv" });
      const failed = await api.import(server.file("broken.zip", brokenZip()));
      const partly = await api.import(server.file("partly.csv", [header, row("a"), row("b", { risk: "extreme" })].join("\n")));
      await api.until(done, "completed");
      await api.until(partly, "completed");
      await api.until(failed, "failed");
      await expect(ui.rows).toHaveCount(3);
      await check(page, "the list");

      await open(page, `/jobs/${failed}`);
      await expect(ui.detail.getByRole("alert")).toBeVisible();
      await check(page, "a failed job");
      for (const action of ["Retry", "Delete"]) {
        await ui.action(action).click();
        await expect(ui.confirmation).toBeVisible();
        if (action === "Retry") await ui.confirmation.getByText("Change args or wait first").click();
        await check(page, `the question before ${action}`);
        await page.keyboard.press("Escape");
        await expect(ui.confirmation).toBeHidden();
      }

      await open(page, `/jobs/${partly}`);
      await ui.expectStatus("Completed");
      await expect(ui.lines).toContainText("extreme");
      await check(page, "an import with rejected rows");

      for (const kind of ["Export", "Import"] as const) {
        await ui.beginNewJob(kind);
        await check(page, `New job: ${kind}`);
        await page.keyboard.press("Escape");
        await expect(ui.newJob).toBeHidden();
      }

      await open(page, "/jobs?status=dead&q=nothing");
      await expect(ui.rows).toHaveCount(0);
      await check(page, "the list when nothing matches");
    });

    for (const width of widths) {
      test(`looks right at ${width} px`, async ({ page, api, server }) => {
        await page.setViewportSize({ width, height: width > 600 ? 900 : 780 });
        const ui = new Dashboard(page);
        const shoot = async (name: string) => {
          await noSidewaysScroll(page, name);
          await page.screenshot({ path: `test-results/screens/${name}-${theme}-${width}.png` });
        };
        await open(page, "/jobs");
        await shoot("empty");
        const ids: string[] = [];
        for (const format of ["csv", "json", "ndjson", "xlsx", "zip"]) ids.push(await api.export({ format }));
        for (const id of ids) await api.until(id, "completed");
        const failed = await api.import(server.file("broken.zip", brokenZip()));
        await api.until(failed, "failed");
        await expect(ui.rows).toHaveCount(6);
        await shoot("list");
        await open(page, `/jobs/${ids[0]}`);
        await ui.expectStatus("Completed");
        await expect(ui.lines).toContainText(/\d\d:\d\d:\d\d/);
        await shoot("detail");
        await open(page, `/jobs/${failed}`);
        await ui.expectStatus("Failed");
        await shoot("failed");
        await ui.action("Delete").click();
        await expect(ui.confirmation).toBeVisible();
        await shoot("confirm");
        await page.keyboard.press("Escape");
        await open(page, "/jobs");
        await ui.beginNewJob("Export");
        await shoot("new-job");
      });
    }
  });
}

test("on a phone, list and detail are two screens with a way back", async ({ page, api }) => {
  await page.setViewportSize({ width: 375, height: 780 });
  const ui = new Dashboard(page);
  const id = await api.export({ format: "csv" });
  await api.until(id, "completed");
  await open(page, "/jobs");
  await ui.row(id).getByRole("link").click();
  await expect(ui.detail).toBeVisible();
  await expect(ui.list).toBeHidden();
  await noSidewaysScroll(page, "a job on a phone");
  await ui.detail.getByRole("link", { name: /Back/ }).click();
  await expect(ui.list).toBeVisible();
  await expect(ui.detail).toBeHidden();
});

test("the keyboard reaches the search, moves through the list and opens a job", async ({ page, api }) => {
  const ui = new Dashboard(page);
  const older = await api.export({ format: "csv" });
  await api.until(older, "completed");
  const newer = await api.export({ format: "csv" });
  await api.until(newer, "completed");
  await open(page, "/jobs");
  await expect(ui.rows).toHaveCount(2);

  const reached = async (locator: ReturnType<Page["getByRole"]>) => {
    for (let presses = 0; presses < 60; presses += 1) {
      await page.keyboard.press("Tab");
      if (await locator.evaluate((element) => element === document.activeElement)) return;
    }
    throw new Error("Tab never gets there");
  };
  await reached(ui.search);
  await reached(ui.row(newer).getByRole("link"));
  await page.keyboard.press("ArrowDown");
  await expect(ui.row(older).getByRole("link")).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(new RegExp(older));
  await ui.expectStatus("Completed");
});

test("focus stays in a dialog and returns to where it was", async ({ page, api }) => {
  const ui = new Dashboard(page);
  const id = await api.export({ format: "csv" });
  await api.until(id, "completed");
  await open(page, `/jobs/${id}`);
  await ui.action("Delete").focus();
  await page.keyboard.press("Enter");
  await expect(ui.confirmation).toBeVisible();
  const inside = () => ui.confirmation.evaluate((dialog) => dialog.contains(document.activeElement));
  expect(await inside()).toBe(true);
  // The safe answer has the focus.
  await expect(ui.confirmation.getByRole("button", { name: /^Delete/ })).not.toBeFocused();
  // Shift+Tab and Tab go round inside, or to the browser's own controls, never to the page behind.
  for (const key of ["Tab", "Tab", "Tab", "Shift+Tab"]) {
    await page.keyboard.press(key);
    expect(await ui.confirmation.evaluate((dialog) => dialog.contains(document.activeElement) || document.activeElement === document.body)).toBe(true);
  }
  await page.keyboard.press("Escape");
  await expect(ui.confirmation).toBeHidden();
  await expect(ui.action("Delete")).toBeFocused();
});

test("the theme can be chosen, and the server remembers it", async ({ page }) => {
  await open(page, "/jobs");
  const html = page.locator("html");
  const chosen = page.getByRole("button", { name: /^Theme/ });
  await chosen.click();
  await chosen.click();
  await expect(html).toHaveAttribute("data-theme", "dark");
  await page.reload({ waitUntil: "commit" });
  await expect(html).toHaveAttribute("data-theme", "dark");
});
