// The dashboard's controls by role and name, as a person finds them.
import { readFile } from "node:fs/promises";
import type { Download, Locator, Page } from "@playwright/test";
import { expect } from "./fixtures.ts";

export class Dashboard {
  constructor(readonly page: Page) {}

  // The list.
  get search(): Locator {
    return this.page.getByRole("searchbox", { name: "Search jobs" });
  }
  get status(): Locator {
    return this.page.getByRole("search").getByRole("combobox", { name: "Status" });
  }
  get type(): Locator {
    return this.page.getByRole("search").getByRole("combobox", { name: "Type" });
  }
  get list(): Locator {
    return this.page.getByRole("list", { name: "Jobs", exact: true });
  }
  get rows(): Locator {
    return this.list.getByRole("listitem");
  }
  /** The list's row of a job, by the last six characters of its id. */
  row(id: string): Locator {
    return this.rows.filter({ hasText: shortId(id) });
  }

  // The selected job.
  get detail(): Locator {
    return this.page.getByRole("region", { name: "Job details" });
  }
  /** The status badge, which says the status in words and, while the job runs, the percentage. */
  async expectStatus(text: string | RegExp, timeout = 60_000): Promise<void> {
    await expect(this.detail.locator(".badge").first()).toHaveText(text, { timeout });
  }
  action(name: string): Locator {
    return this.detail.getByRole("button", { name, exact: true });
  }
  get confirmation(): Locator {
    return this.page.getByRole("alertdialog");
  }
  download(name: string): Locator {
    return this.detail.getByRole("link", { name: `Download ${name}` });
  }
  /** The id of the job that the address names. */
  get id(): string {
    const id = new URL(this.page.url()).pathname.split("/").pop();
    if (!id || id === "jobs") throw new Error(`no job in ${this.page.url()}`);
    return id;
  }

  // Its log.
  get logs(): Locator {
    return this.page.getByRole("region", { name: "Job logs" });
  }
  get lines(): Locator {
    return this.logs.getByRole("log");
  }
  get connection(): Locator {
    return this.logs.getByRole("status").first();
  }

  // New job.
  get newJob(): Locator {
    return this.page.getByRole("dialog", { name: "New job" });
  }

  /** Opens the dialog and chooses the kind. */
  async beginNewJob(kind: "Export" | "Import"): Promise<Locator> {
    await this.page.getByRole("main").getByRole("button", { name: "New job" }).first().click();
    await expect(this.newJob).toBeVisible();
    await this.newJob.getByRole("combobox", { name: "Job type" }).selectOption({ label: kind });
    return this.newJob;
  }

  /** Sends the dialog and waits for the new job's page. */
  async startNewJob(): Promise<string> {
    const before = this.page.url();
    await this.newJob.getByRole("button", { name: "Start job" }).click();
    await this.page.waitForURL((url) => url.href !== before && /\/jobs\/[0-9a-f-]{36}/.test(url.pathname));
    await expect(this.newJob).toBeHidden();
    return this.id;
  }
}

/** What a list shows of an id. */
export function shortId(id: string): string {
  return id.replaceAll("-", "").slice(-6);
}

export async function content(download: Download): Promise<string> {
  return readFile(await download.path(), "utf8");
}
