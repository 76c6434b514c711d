// Who is let in, what they find there, and what is remembered of it.
import type { Browser, BrowserContext, Locator, Page } from "@playwright/test";
import { readFile } from "node:fs/promises";
import { Dashboard } from "./support/dashboard.ts";
import { expect, hydrated, open, test } from "./support/fixtures.ts";
import { check, noSidewaysScroll, themes, widths } from "./support/look.ts";
import { admin, type Person, type Server } from "./support/server.ts";

const member: Person = { email: "mem@example.org", password: "another long password" };
const main = (page: Page) => page.getByRole("navigation", { name: "Main" });
const dialog = (page: Page, name: string) => page.getByRole("dialog", { name });

async function signIn(page: Page, { email, password }: Person): Promise<void> {
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
}

/** Invites somebody on the Users page; answers with the link. */
async function invite(page: Page, email: string, role: string): Promise<string> {
  await open(page, "/users");
  await page.getByRole("button", { name: "Invite user" }).click();
  const form = dialog(page, "Invite user");
  await form.getByLabel("E-mail").fill(email);
  await form.getByRole("radio", { name: role }).check();
  await form.getByRole("button", { name: "Make link" }).click();
  const link = form.getByRole("textbox", { name: "Link" });
  await expect(link).toBeVisible();
  await expect(form.getByText(/It works once, until/)).toBeVisible();
  return link.inputValue();
}

/** Follows a link that works once and chooses a password. */
async function choose(page: Page, link: string, password: string, button: string): Promise<void> {
  await page.goto(link);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: button, exact: true }).click();
  await page.waitForURL(/\/jobs$/);
  await hydrated(page);
}

/** A browser of somebody who has just come by an invitation. */
async function comes(browser: Browser, server: Server, page: Page, role: string, person = member): Promise<BrowserContext> {
  const link = await invite(page, person.email, role);
  const context = await browser.newContext({ baseURL: server.url });
  await choose(await context.newPage(), link, person.password, "Join");
  return context;
}

function row(page: Page, list: string, text: string | RegExp): Locator {
  return page.getByRole("list", { name: list, exact: true }).getByRole("listitem").filter({ hasText: text });
}

test.describe("without a sign-in", () => {
  test.use({ signedIn: false });

  test("a page leads to the sign-in and back; a wrong password is said, and nothing is streamed before", async ({ page }) => {
    const asked: string[] = [];
    page.on("request", (request) => asked.push(new URL(request.url()).pathname));
    await open(page, "/jobs?status=failed");
    await expect(page).toHaveURL(/\/sign-in\?next=/);
    await expect(page.getByRole("heading", { level: 1, name: "Sign in" })).toBeVisible();
    await expect(main(page)).toHaveCount(0);

    await signIn(page, { ...admin, password: "not the password" });
    await expect(page.getByRole("alert")).toContainText("is wrong");
    await signIn(page, { email: "nobody@example.org", password: admin.password });
    await expect(page.getByRole("alert")).toContainText("is wrong");
    await hydrated(page);
    expect(asked.filter((path) => path.startsWith("/api") || path.startsWith("/rpc"))).toEqual([]);

    await signIn(page, admin);
    await expect(page).toHaveURL(/\/jobs\?status=failed$/);
    await expect(page.getByRole("banner").getByText(admin.email)).toBeVisible();
  });

  test("the sign-in works without a script, and signing out leads back to it", async ({ browser, server }) => {
    const context = await browser.newContext({ javaScriptEnabled: false, baseURL: server.url });
    const page = await context.newPage();
    await page.goto("/account");
    await signIn(page, admin);
    await expect(page).toHaveURL(/\/account$/);
    await expect(page.getByRole("heading", { level: 1, name: "Your account" })).toBeVisible();
    await page.getByRole("banner").getByRole("button", { name: "Sign out" }).click();
    await expect(page).toHaveURL(/\/sign-in/);
    await page.goto("/jobs");
    await expect(page).toHaveURL(/\/sign-in\?next=/);
    await context.close();
  });

  test("a link that never was says so", async ({ page }) => {
    await open(page, "/welcome/no-such-key");
    await expect(page.getByText("This link does not work any more")).toBeVisible();
  });
});

test("who is invited chooses a password, is a member, and sees their own pages only", async ({ page, browser, server }) => {
  const link = await invite(page, member.email, "Member");
  expect(link).toContain(`${server.url}/welcome/`);
  const context = await browser.newContext({ baseURL: server.url });
  const theirs = await context.newPage();
  await theirs.goto(link);
  await expect(theirs.getByRole("heading", { name: "Welcome to Windlass" })).toBeVisible();
  await expect(theirs.getByLabel("E-mail")).toHaveValue(member.email);
  await choose(theirs, link, member.password, "Join");

  await expect(main(theirs).getByRole("link")).toHaveText(["Jobs"]);
  await expect(theirs.getByRole("banner").getByText("Member", { exact: true })).toBeVisible();
  for (const path of ["/users", "/audit-log", "/settings"]) {
    await open(theirs, path);
    await expect(theirs.getByText("This page is not for your role")).toBeVisible();
  }

  // The link is used up.
  await theirs.goto(link);
  await expect(theirs.getByText("This link does not work any more")).toBeVisible();
  await open(page, "/users");
  await expect(row(page, "Users", member.email)).toContainText("Member");
  await context.close();
});

test("a link that was not used is listed, and taken back it lets nobody in", async ({ page, browser, server }) => {
  const link = await invite(page, member.email, "Manager");
  await dialog(page, "Invite user").getByRole("button", { name: "Done" }).click();
  const pending = row(page, "Links not used yet", member.email);
  await expect(pending).toContainText("Invitation");
  await expect(pending).toContainText("Manager");
  await expect(pending).toContainText(admin.email);
  await pending.getByRole("button", { name: /^Revoke/ }).click();
  await expect(page.getByRole("list", { name: "Links not used yet" })).toHaveCount(0);
  const context = await browser.newContext({ baseURL: server.url });
  const theirs = await context.newPage();
  await theirs.goto(link);
  await expect(theirs.getByText("This link does not work any more")).toBeVisible();
  await context.close();
});

test("a viewer is not offered to start jobs", async ({ page, browser, server }) => {
  const context = await comes(browser, server, page, "Viewer");
  const theirs = context.pages()[0]!;
  await expect(theirs.getByText("No jobs yet")).toBeVisible();
  await expect(theirs.getByRole("button", { name: /New job|first job/ })).toHaveCount(0);
  await open(page, "/jobs");
  await expect(page.getByRole("button", { name: "New job" })).toBeVisible();
  await context.close();
});

test("who may not act on many jobs is not offered to select them; a manager deletes none", async ({
  page,
  browser,
  server,
  api,
}) => {
  await api.until(await api.export({ format: "csv" }), "completed");
  for (const [role, boxes, buttons] of [
    ["Viewer", 0, []],
    ["Manager", 1, ["Retry", "Cancel"]],
  ] as const) {
    const context = await comes(browser, server, page, role, { ...member, email: `${role.toLowerCase()}@example.org` });
    const theirs = context.pages()[0]!;
    await expect(theirs.getByRole("list", { name: "Jobs", exact: true }).getByRole("listitem")).toHaveCount(1);
    await expect(theirs.getByRole("checkbox", { name: /^Select Export/ })).toHaveCount(boxes);
    await expect(theirs.getByRole("checkbox", { name: "Select all" })).toHaveCount(boxes);
    if (boxes > 0) {
      await theirs.getByRole("checkbox", { name: "Select all" }).check();
      const offered = theirs.getByRole("group", { name: "Selected jobs" }).getByRole("button", { name: /Retry|Cancel|Delete/ });
      await expect(offered).toHaveText(buttons);
    }
    await context.close();
  }
});

test("a token is shown once, works for what it is for, and not when it is revoked", async ({ page, server }) => {
  await open(page, "/account");
  await page.getByRole("button", { name: "New token" }).click();
  const form = dialog(page, "New token");
  await form.getByLabel("Name").fill("nightly report");
  await expect(form.getByRole("checkbox", { name: /jobs:read/ })).toBeChecked();
  await form.getByLabel("Expires").selectOption({ label: "30 days" });
  await form.getByRole("button", { name: "Make token" }).click();
  const shown = form.getByRole("textbox", { name: "Token" });
  await expect(form.getByText(/only time/)).toBeVisible();
  const secret = await shown.inputValue();
  await form.getByRole("button", { name: "Done" }).click();

  const token = row(page, "API tokens", "nightly report");
  await expect(token).toContainText("jobs:read");
  await expect(token).toContainText("Not used yet");
  await expect(page.getByText(secret)).toHaveCount(0);

  const call = (method: string, path: string) =>
    fetch(server.url + path, { method, headers: { authorization: `Bearer ${secret}` } }).then((answer) => answer.status);
  expect(await call("GET", "/api/jobs")).toBe(200);
  expect(await call("GET", "/api/users")).toBe(403);

  await token.getByRole("button", { name: /Revoke/ }).click();
  await page.getByRole("alertdialog").getByRole("button", { name: "Revoke token" }).click();
  await expect(token).toContainText("Revoked");
  expect(await call("GET", "/api/jobs")).toBe(401);
});

test("signing out everywhere else ends the other sessions, whose pages lead to the sign-in", async ({ page, browser, server }) => {
  const context = await browser.newContext({ baseURL: server.url });
  await server.enter(context);
  const other = await context.newPage();
  await open(other, "/jobs");
  await open(page, "/account");
  await expect(page.getByText("This session", { exact: true })).toBeVisible();
  await page.getByRole("button", { name: "Sign out everywhere else" }).click();
  await page.getByRole("alertdialog").getByRole("button", { name: "Sign out everywhere else" }).click();
  await expect(page.getByRole("list", { name: "Sessions" }).getByRole("listitem")).toHaveCount(1);
  await expect(other).toHaveURL(/\/sign-in\?next=%2Fjobs$/);
  await open(page, "/account");
  await expect(page.getByText("This session", { exact: true })).toBeVisible();
  await context.close();
});

test("a password is changed, and the old one is refused", async ({ page, server, console }) => {
  console.allow(/400/);
  await open(page, "/account");
  const change = page.getByRole("button", { name: "Change password" });
  const next = "yet another long password";
  await page.getByLabel("Current password").fill("not the password");
  await page.getByLabel("New password").fill(next);
  await change.click();
  await expect(page.getByRole("alert").filter({ hasText: "not your password" })).toBeVisible();
  await page.getByLabel("Current password").fill(admin.password);
  await change.click();
  await expect(page.getByText("The password was changed")).toBeVisible();
  await expect(server.signIn()).rejects.toThrow(/wrong/);
  await server.signIn({ ...admin, password: next });
});

test("a user is changed, disabled and let in again by a new password link", async ({ page, browser, server }) => {
  const context = await comes(browser, server, page, "Member");
  const theirs = context.pages()[0]!;
  await open(page, "/users");
  const user = row(page, "Users", member.email);
  await user.getByRole("button", { name: "Change" }).click();
  const form = dialog(page, "Change user");
  await form.getByLabel("Name").fill("Mem Ber");
  await form.getByRole("radio", { name: "Manager" }).check();
  await form.getByRole("button", { name: "Save" }).click();
  await expect(form).toBeHidden();
  await expect(user).toContainText("Manager");
  await expect(user).toContainText("Mem Ber");
  await open(theirs, "/audit-log");
  await expect(row(theirs, "Audit log", "Changed a user")).toBeVisible();

  await user.getByRole("button", { name: "Disable" }).click();
  await page.getByRole("alertdialog").getByRole("button", { name: "Disable user" }).click();
  await expect(user).toContainText("Disabled");
  await expect(theirs).toHaveURL(/\/sign-in/);
  await expect(server.signIn(member)).rejects.toThrow(/wrong/);

  await user.getByRole("button", { name: "Enable" }).click();
  await page.getByRole("alertdialog").getByRole("button", { name: "Enable user" }).click();
  await expect(user).not.toContainText("Disabled");
  await user.getByRole("button", { name: "New password link" }).click();
  const link = await dialog(page, "New password link").getByRole("textbox", { name: "Link" }).inputValue();
  await choose(theirs, link, "a password of today", "Set password");
  await expect(theirs.getByRole("banner").getByText("Mem Ber")).toBeVisible();
  await context.close();
});

test("the audit log shows who did what, narrows by its address, and is had as a file", async ({ page, api }) => {
  const id = await api.export({ format: "csv" });
  await api.until(id, "completed");
  await api.post(`/api/jobs/${id}/run-again`, {}, 200);
  await invite(page, member.email, "Viewer");

  await open(page, "/audit-log");
  const invited = row(page, "Audit log", "Invited a user");
  await expect(invited).toContainText(member.email);
  await expect(invited).toContainText(admin.email);
  await invited.getByText("Details").click();
  await expect(invited.getByRole("group", { name: "After" })).toContainText("viewer");
  await expect(page.getByText(/Last entry/)).toBeVisible();

  await page.getByRole("combobox", { name: "Object" }).selectOption({ label: "Jobs" });
  await expect(page).toHaveURL(/[?&]object=job/);
  await expect(invited).toHaveCount(0);
  const job = page.getByRole("list", { name: "Audit log" }).getByRole("link").first();
  await expect(job).toHaveAttribute("href", /\/jobs\/[0-9a-f-]{36}/);

  const downloading = page.waitForEvent("download");
  await page.getByRole("link", { name: "Export NDJSON" }).click();
  const lines = (await readFile(await (await downloading).path(), "utf8")).trim().split("\n");
  expect(lines.length).toBeGreaterThan(0);
  for (const line of lines) expect((JSON.parse(line) as { object: string }).object).toBe("job");
  const table = page.waitForEvent("download");
  await page.getByRole("link", { name: "Export CSV" }).click();
  const rows = (await readFile(await (await table).path(), "utf8")).trim().split("\r\n");
  expect(rows[0]).toContain("seq,at,actor");
  expect(rows).toHaveLength(lines.length + 1);
  // The copy that was started leads to its page, too.
  await row(page, "Audit log", "Ran a job again").getByRole("link").last().click();
  await expect(page).toHaveURL(/\/jobs\/[0-9a-f-]{36}$/);
  await page.goBack();
  await expect(page).toHaveURL(/[?&]object=job/);

  await page.reload();
  await hydrated(page);
  await expect(page.getByRole("combobox", { name: "Object" })).toHaveValue("job");
  await page.getByRole("searchbox", { name: "Who" }).fill("nobody@example.org");
  await expect(page.getByText("No entries match")).toBeVisible();
  await page.getByRole("button", { name: "Clear all" }).first().click();
  await expect(page).toHaveURL(/\/audit-log$/);
  await expect(invited).toBeVisible();

  await open(page, "/admin/audit-logs?action=user.invite");
  await expect(page.getByRole("list", { name: "Audit log" }).getByRole("listitem")).toHaveCount(1);
});

for (const theme of themes) {
  test.describe(`in ${theme}`, () => {
    test.use({ colorScheme: theme, contextOptions: { reducedMotion: "reduce" } });

    for (const width of widths) {
      test(`the pages of identity pass axe and look right at ${width} px`, async ({ page, browser, server, api }) => {
        test.setTimeout(180_000);
        const size = { width, height: width > 600 ? 900 : 780 };
        await page.setViewportSize(size);
        const look = async (of: Page, name: string) => {
          await noSidewaysScroll(of, name);
          await check(of, name);
          await of.screenshot({ path: `test-results/screens/${name}-${theme}-${width}.png` });
        };
        const id = await api.export({ format: "csv" });
        await api.until(id, "completed");

        await open(page, "/users");
        await page.getByRole("button", { name: "Invite user" }).click();
        await expect(dialog(page, "Invite user").getByRole("checkbox").first()).toBeVisible();
        await look(page, "invite");
        const link = await invite(page, member.email, "Member");
        await look(page, "invite-link");

        const context = await browser.newContext({ baseURL: server.url, viewport: size, colorScheme: theme, reducedMotion: "reduce" });
        const theirs = await context.newPage();
        await open(theirs, "/jobs");
        await look(theirs, "sign-in");
        await open(theirs, "/sign-in?next=%2Fjobs&problem=wrong");
        await look(theirs, "sign-in-wrong");
        await open(theirs, "/welcome/none");
        await look(theirs, "welcome-none");
        await open(theirs, link);
        await look(theirs, "welcome");
        await choose(theirs, link, member.password, "Join");
        await open(theirs, "/users");
        await look(theirs, "not-allowed");
        await context.close();

        await open(page, "/users");
        await expect(row(page, "Users", member.email)).toBeVisible();
        await look(page, "users");
        await row(page, "Users", member.email).getByRole("button", { name: "Disable" }).click();
        await look(page, "disable");
        await page.keyboard.press("Escape");

        await open(page, "/account");
        await look(page, "account");
        await page.getByRole("button", { name: "New token" }).click();
        const form = dialog(page, "New token");
        await form.getByLabel("Name").fill("nightly report");
        await look(page, "new-token");
        await form.getByRole("button", { name: "Make token" }).click();
        await expect(form.getByRole("textbox", { name: "Token" })).toBeVisible();
        await look(page, "token");
        await form.getByRole("button", { name: "Done" }).click();
        await expect(row(page, "API tokens", "nightly report")).toBeVisible();
        await look(page, "account-token");

        await open(page, "/audit-log");
        await row(page, "Audit log", "Invited a user").getByText("Details").click();
        await look(page, "audit-log");
        await open(page, "/settings");
        await expect(page.getByRole("list", { name: "Settings" })).toBeVisible();
        await look(page, "settings");
        await page.getByRole("searchbox", { name: "Search settings" }).fill("no such thing");
        await expect(page.getByText("No settings match")).toBeVisible();
        await look(page, "settings-none");

        await open(page, "/audit-log?actor=nobody");
        await expect(page.getByText("No entries match")).toBeVisible();
        await look(page, "audit-log-none");
      });
    }
  });
}

test("the settings say what they are, where they come from, and no secret", async ({ page, server }) => {
  await open(page, "/jobs");
  await main(page).getByRole("link", { name: "Settings" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "Settings" })).toBeVisible();
  const listen = row(page, "Settings", /^LISTEN/);
  await expect(listen).toContainText("Environment");
  await expect(listen).toContainText(new URL(server.url).host);
  const password = row(page, "Settings", /^ADMIN_PASSWORD/);
  await expect(password).toContainText("Secret, set");
  await expect(page.locator("body")).not.toContainText(admin.password);

  const search = page.getByRole("searchbox", { name: "Search settings" });
  await search.fill("retention");
  await expect(page.getByRole("list", { name: "Settings" }).getByRole("listitem")).toHaveCount(1);
  await search.press("Escape");
  await page.getByLabel("Only those that were given").check();
  await expect(listen).toBeVisible();
  await expect(row(page, "Settings", /^RETENTION/)).toHaveCount(0);
});

test("the keyboard alone signs in, and an answer to a form keeps the focus in its dialog", async ({ page, browser, server }) => {
  const context = await browser.newContext({ baseURL: server.url });
  const theirs = await context.newPage();
  await open(theirs, "/jobs");
  await expect(theirs.getByLabel("E-mail")).toBeFocused();
  await theirs.keyboard.type(admin.email);
  await theirs.keyboard.press("Tab");
  await theirs.keyboard.type(admin.password);
  await theirs.keyboard.press("Enter");
  await expect(theirs).toHaveURL(/\/jobs$/);
  await context.close();

  await open(page, "/account");
  await page.getByRole("button", { name: "New token" }).focus();
  await page.keyboard.press("Enter");
  const form = dialog(page, "New token");
  await expect(form.getByLabel("Name")).toBeFocused();
  await page.keyboard.type("by hand");
  await page.keyboard.press("Enter");
  await expect(form.getByRole("textbox", { name: "Token" })).toBeFocused();
  await page.keyboard.press("Escape");
  await expect(form).toBeHidden();
});

test("the list of jobs stays as it was for those who are signed in", async ({ page, api }) => {
  const ui = new Dashboard(page);
  const id = await api.export({ format: "csv" });
  await api.until(id, "completed");
  await open(page, "/jobs");
  await expect(ui.row(id)).toBeVisible();
  await expect(main(page).getByRole("link")).toHaveText(["Jobs", "Users", "Audit log", "Settings"]);
});
