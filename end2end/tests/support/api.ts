// The REST API, as the tests need it.
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { expect } from "@playwright/test";

export type Status =
  | "scheduled"
  | "blocked"
  | "pending"
  | "running"
  | "retrying"
  | "paused"
  | "completed"
  | "failed"
  | "dead"
  | "cancelled";

export interface Job {
  id: string;
  type: string;
  status: Status;
  message: string;
  progress: number | null;
  done: number | null;
  total: number | null;
  attempt: number;
}

export interface Artifact {
  name: string;
  size: number;
  sha256: string;
  content_type: string;
}

export interface Detail {
  job: Job;
  args: Record<string, unknown>;
  result: Record<string, unknown> | null;
  error: { code: string; message: string } | null;
  artifacts: Artifact[];
  attempts: { number: number; outcome: string | null }[];
  log_lines: number;
}

export interface LogLine {
  n: number;
  attempt: number;
  level: string;
  message: string;
}

export class Api {
  readonly #headers: Record<string, string>;

  /** `cookie`: that of whoever asks. */
  constructor(
    readonly url: string,
    cookie: string,
  ) {
    this.#headers = { cookie, origin: url };
  }

  async get<T>(path: string): Promise<T> {
    const answer = await fetch(this.url + path, { headers: { ...this.#headers, accept: "application/json" } });
    if (!answer.ok) throw new Error(`GET ${path}: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as T;
  }

  async post<T>(path: string, body: unknown, status: number): Promise<T> {
    const answer = await fetch(this.url + path, {
      method: "POST",
      headers: { ...this.#headers, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    const text = await answer.text();
    expect(answer.status, `POST ${path}: ${text}`).toBe(status);
    return JSON.parse(text) as T;
  }

  /** Starts an export; `args` is the flat body of the call. */
  async export(args: Record<string, unknown> = {}): Promise<string> {
    return (await this.post<{ job_id: string }>("/api/events/export", args, 202)).job_id;
  }

  /** Uploads a file and starts its import. */
  async import(path: string): Promise<string> {
    const form = new FormData();
    form.append("file", new Blob([await readFile(path)]), basename(path));
    const answer = await fetch(`${this.url}/api/events/import`, { method: "POST", headers: this.#headers, body: form });
    const text = await answer.text();
    expect(answer.status, text).toBe(202);
    return (JSON.parse(text) as { job_id: string }).job_id;
  }

  async job(id: string): Promise<Job> {
    return this.get<Job>(`/api/jobs/${id}`);
  }

  async detail(id: string): Promise<Detail> {
    return this.get<Detail>(`/api/jobs/${id}/detail`);
  }

  async jobs(query = ""): Promise<{ items: Job[]; total: number }> {
    return this.get(`/api/jobs${query}`);
  }

  /** All lines of a job's log. */
  async logs(id: string): Promise<LogLine[]> {
    const lines: LogLine[] = [];
    for (;;) {
      const after = lines.at(-1)?.n ?? 0;
      const page = await this.get<LogLine[] | { items: LogLine[] }>(`/api/jobs/${id}/logs?after=${after}&limit=1000`);
      const items = Array.isArray(page) ? page : page.items;
      if (items.length === 0) return lines;
      lines.push(...items);
    }
  }

  /** The text of one of a job's files. */
  async artifact(id: string, name: string): Promise<string> {
    const answer = await fetch(`${this.url}/api/jobs/${id}/artifacts/${encodeURIComponent(name)}`, { headers: this.#headers });
    expect(answer.status).toBe(200);
    return answer.text();
  }

  /** Waits until the job has this status. */
  async until(id: string, ...statuses: Status[]): Promise<Job> {
    await expect
      .poll(async () => (await this.job(id)).status, {
        message: `job ${id} becomes ${statuses.join(" or ")}`,
        timeout: 60_000,
        intervals: [20, 50, 100],
      })
      .toMatch(new RegExp(`^(${statuses.join("|")})$`));
    return this.job(id);
  }
}
