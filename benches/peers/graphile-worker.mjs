// Graphile Worker, on Postgres.
import { Logger, makeWorkerUtils, run as startRunner } from "graphile-worker";
import pg from "pg";
import { env, run, tally } from "./lib.mjs";

const SCHEMA = "windlass_peers_graphile";
const TASK = "noop";
// It logs every job by default, which would be measured along.
const logger = new Logger(() => () => {});

await run({
  name: "graphile-worker",
  settings:
    "pool of 20 connections for all callers; worker with concurrentJobs 10, localQueue 500, completions in batches (delay 0)",

  async producer() {
    const pool = new pg.Pool({ connectionString: env("DATABASE_URL"), max: 20 });
    // It asks for both.
    pool.on("error", (error) => process.stderr.write(`${error.stack}\n`));
    pool.on("connect", (client) => client.on("error", (error) => process.stderr.write(`${error.stack}\n`)));
    let utils;
    return {
      async reset() {
        await utils?.release();
        await pool.query(`DROP SCHEMA IF EXISTS ${SCHEMA} CASCADE`);
        utils = await makeWorkerUtils({ pgPool: pool, schema: SCHEMA, logger });
        await utils.migrate();
      },
      one: (data) => utils.addJob(TASK, data),
      bulk: (list) => utils.addJobs(list.map((payload) => ({ identifier: TASK, payload }))),
      // What autovacuum does within a minute in a running system.
      prepared: () => pool.query("ANALYZE"),
      left: async () => (await pool.query(`SELECT count(*)::int AS n FROM ${SCHEMA}.jobs`)).rows[0].n,
      async close() {
        await utils?.release();
        await pool.end();
      },
    };
  },

  async worker({ concurrency, handle, expected }) {
    const { recorded: handled, add } = tally(expected);
    const runner = await startRunner({
      preset: {
        worker: {
          connectionString: env("DATABASE_URL"),
          schema: SCHEMA,
          concurrentJobs: concurrency,
          maxPoolSize: concurrency + 2,
          // The settings of the "Performance" page of its documentation.
          localQueue: { size: 500 },
          completeJobBatchDelay: 0,
          failJobBatchDelay: 0,
          logger,
        },
      },
      taskList: {
        [TASK]: async (payload) => {
          handle(payload);
          add();
        },
      },
      noHandleSignals: true,
    });
    let stopped;
    const stop = () => (stopped ??= runner.stop());
    // Where completions are written in batches, its events come before they are written; stopping waits for them.
    return { recorded: handled.then(stop), close: stop };
  },
});
