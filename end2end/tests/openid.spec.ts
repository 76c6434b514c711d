// Signing in by an OpenID provider, as people meet it.
import type { Page } from "@playwright/test";
import { expect, open, test as base } from "./support/fixtures.ts";
import { check, noSidewaysScroll, themes, widths } from "./support/look.ts";
import { Provider } from "./support/provider.ts";

const test = base.extend<{ provider: Provider }>({
  provider: async ({}, use) => {
    const provider = await Provider.start();
    await use(provider);
    await provider.dispose();
  },
  settings: async ({ provider }, use) => use(provider.settings),
});
test.use({ signedIn: false, ignoreHTTPSErrors: true });

const button = (page: Page) => page.getByRole("link", { name: "Sign in with Example ID" });

/** Goes to the provider and says there who it is. */
async function comeAs(page: Page, name: string): Promise<void> {
  await button(page).click();
  await page.getByLabel("Account").fill(name);
  await page.getByRole("button", { name: "Continue" }).click();
}

test("who comes by the provider is back where they wanted to be, with the role of their group", async ({ page, provider }) => {
  await provider.person("ada", "dev");
  await open(page, "/jobs?status=failed");
  await expect(page).toHaveURL(/\/sign-in\?next=/);
  await comeAs(page, "ada");
  await expect(page).toHaveURL(/\/jobs\?status=failed$/);
  const banner = page.getByRole("banner");
  await expect(banner.getByText("ada", { exact: true })).toBeVisible();
  await expect(banner.getByText("Manager", { exact: true })).toBeVisible();

  // Without a password there is none to change.
  await open(page, "/account");
  await expect(page.getByRole("heading", { level: 1, name: "Your account" })).toBeVisible();
  await expect(page.getByRole("heading", { name: "Change password" })).toHaveCount(0);
  await banner.getByRole("button", { name: "Sign out" }).click();
  await expect(button(page)).toBeVisible();
});

test("who is in no group that may come in is told so, and is not in", async ({ page, provider }) => {
  await provider.person("eve", "guests");
  await open(page, "/sign-in");
  await comeAs(page, "eve");
  await expect(page.getByRole("alert")).toContainText("None of your groups may use Windlass");
  await open(page, "/jobs");
  await expect(page).toHaveURL(/\/sign-in\?next=/);
});

test("a provider that is away is said, and passwords go on working", async ({ page, provider }) => {
  await provider.stop();
  await open(page, "/sign-in");
  await button(page).click();
  await expect(page.getByRole("alert")).toContainText("can't be reached");
  await expect(page.getByLabel("Password")).toBeVisible();
});

for (const theme of themes) {
  for (const width of widths) {
    test(`the sign-in looks right, ${theme}, ${width} wide`, async ({ page }) => {
      await page.emulateMedia({ colorScheme: theme });
      await page.setViewportSize({ width, height: 900 });
      await open(page, "/sign-in");
      await expect(button(page)).toBeVisible();
      await noSidewaysScroll(page, "the sign-in");
      await check(page, "the sign-in");
      await page.screenshot({ path: `test-results/screens/sign-in-openid-${theme}-${width}.png`});
    });
  }
}
