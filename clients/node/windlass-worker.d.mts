/** Why an attempt failed; see docs/WORKERS.md. */
export type ErrorCode =
  | "NETWORK_ERROR"
  | "TIMEOUT"
  | "RATE_LIMIT"
  | "AUTH_ERROR"
  | "INVALID_ARGS"
  | "NOT_FOUND"
  | "VALIDATION"
  | "IO_ERROR"
  | "DATABASE_ERROR"
  | "PANIC"
  | "INTERNAL";

export declare class JobError extends Error {
  constructor(code: ErrorCode, message: string, options?: { retryable?: boolean });
  readonly code: ErrorCode;
  readonly retryable: boolean | undefined;
}

/** An answer that refuses a call. */
export declare class Refused extends Error {
  readonly problem: { status: number; code?: string; title?: string; detail?: string; field?: string };
}

export type Level = "debug" | "info" | "warning" | "error";

/** One attempt at a job. What it says is heard before the promise resolves; it rejects once the lease is lost. */
export interface Run<Args = Record<string, unknown>> {
  readonly id: string;
  /** Hand it on to what can refuse an older one. */
  readonly epoch: number;
  readonly type: string;
  readonly args: Args;
  readonly attempt: number;
  readonly max_attempts: number;
  readonly queue: string;
  readonly priority: "critical" | "high" | "normal" | "low";
  readonly owner: string;
  readonly timeout_s: number;
  readonly checkpoint?: unknown;
  /** Aborted when somebody cancels the job, and when its lease is lost. */
  readonly signal: AbortSignal;
  /** Whether to stop at the next checkpoint, with `release`. */
  readonly pausing: boolean;
  progress(done: number, total: number, message?: string): Promise<void>;
  step(message: string): Promise<void>;
  log(message: string, level?: Level): Promise<void>;
  save(checkpoint: unknown): Promise<void>;
  release(checkpoint?: unknown): never;
}

export interface Kind {
  /** Two parts or more with dots between them: `images.resize`. */
  name: string;
  description?: string;
  args_schema: Record<string, unknown>;
  policy?: Record<string, unknown>;
  checkpoints?: boolean;
  run(job: Run): Promise<unknown> | unknown;
}

export declare function work(options: {
  url: string;
  token: string;
  name: string;
  slots?: number;
  host?: string;
  version?: string;
  kinds: Kind[];
  warn?: (text: string) => void;
}): Promise<{ readonly id: string; stop(): void; readonly ended: Promise<unknown> }>;
