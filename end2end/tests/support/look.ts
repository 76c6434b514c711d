// How pages look: accessibility by axe, and what fits into a window.
import { AxeBuilder } from "@axe-core/playwright";
import { expect, type Page } from "@playwright/test";

export const themes = ["light", "dark"] as const;
export const widths = [1440, 375] as const;

export async function check(page: Page, what: string): Promise<void> {
  // Colours in transition are nobody's colours. Asked anew each time: one whose element goes away never finishes.
  const moving = () =>
    document.getAnimations().filter((a) => a.effect?.getTiming().iterations !== Infinity && a.playState === "running").length;
  await expect.poll(() => page.evaluate(moving), { intervals: [20, 50, 100] }).toBe(0);
  const { violations } = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]).analyze();
  const found = violations.map((v) => `${v.id}: ${v.help}\n  ${v.nodes.map((n) => `${n.target.join(" ")}: ${n.failureSummary}`).join("\n  ")}`);
  expect(found, `accessibility of ${what}`).toEqual([]);
}

export async function noSidewaysScroll(page: Page, what: string): Promise<void> {
  const [inner, content] = await page.evaluate(() => [innerWidth, document.documentElement.scrollWidth] as const);
  expect(content, `${what} is no wider than its window`).toBeLessThanOrEqual(inner);
}
