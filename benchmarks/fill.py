"""Fills a database with a million jobs and ten million events, as a platform that was busy for years would have them.

    python benchmarks/fill.py [--database-url URL] [--jobs 1000000] [--events 10000000]

Writes into project `filled`; `--clear` takes it out again.
"""

import argparse
import json
import time

import psycopg
from platform_at_hand import Platform, machine

JOBS = """
INSERT INTO jobs (id, project, kind, state, reason, name, priority, labels, spec, attempt, tries, max_attempts,
                  last_seq, created_at, started_at, attempt_started_at, ended_at, progress)
SELECT (lpad(to_hex(1600000000000 + n * 100000), 12, '0') || '7' || lpad(to_hex(n %% 4096), 3, '0')
        || '8' || substr(md5(n::text), 1, 15))::uuid,
       'filled', (ARRAY['training', 'analysis', 'evaluation', 'export'])[1 + n %% 4], state,
       CASE state WHEN 'failed' THEN 'bad_data' WHEN 'stopped' THEN 'user_stopped' END,
       'run ' || n || ' ' || (ARRAY['lora', 'qlora', 'full', 'dpo', 'sft'])[1 + n %% 5], 0,
       jsonb_build_object('team', 'team-' || n %% 50, 'batch', (n / 1000)::text),
       jsonb_build_object('modelName', 'org/model-' || n %% 200, 'dataset', 'set-' || n %% 1000),
       CASE WHEN state = 'queued' THEN 0 ELSE 1 END, CASE WHEN state = 'queued' THEN 0 ELSE 1 END, 3,
       %(events)s, at, at, at, CASE WHEN state <> 'queued' THEN at + interval '10 minutes' END, '{"percent": 100}'
FROM (
    SELECT n, to_timestamp((1600000000000 + n * 100000) / 1000.0) AS at,
           CASE WHEN n > %(last)s - 5000 THEN 'queued' WHEN n %% 20 = 0 THEN 'failed' WHEN n %% 33 = 0 THEN 'stopped'
                ELSE 'succeeded' END AS state
    FROM generate_series(%(first)s::bigint, %(upto)s::bigint) AS n
) made
"""

EVENTS = """
INSERT INTO job_events (job_id, seq, type, at, data)
SELECT j.id, seq, CASE WHEN seq IN (1, 2, %(events)s) THEN 'state' ELSE 'metric' END,
       j.created_at + seq * interval '10 seconds',
       CASE WHEN seq IN (1, 2, %(events)s) THEN '{"state": "running"}'::jsonb
            ELSE jsonb_build_object('step', seq, 'loss', 2.5 / seq) END
FROM jobs j, generate_series(1, %(events)s) AS seq
WHERE j.project = 'filled' AND j.created_at > to_timestamp(%(begin)s) AND j.created_at <= to_timestamp(%(end)s)
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    Platform.add_arguments(parser)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--clear", action="store_true")
    arguments = parser.parse_args()
    platform = Platform.from_arguments(arguments)
    started = time.perf_counter()
    with psycopg.connect(platform.database_url, autocommit=True) as connection:
        connection.execute("SET statement_timeout = 0; SET synchronous_commit = off")
        if arguments.clear:
            connection.execute("DELETE FROM jobs WHERE project = 'filled'")
            connection.execute("VACUUM ANALYZE jobs, job_events")
            return
        connection.execute(
            "INSERT INTO projects (name, created_at, max_running_jobs) VALUES ('filled', now(), 0)"
            " ON CONFLICT DO NOTHING"
        )
        each = max(1, arguments.events // arguments.jobs)
        step = 20_000
        for first in range(1, arguments.jobs + 1, step):
            upto = min(first + step - 1, arguments.jobs)
            connection.execute(JOBS, {"first": first, "upto": upto, "last": arguments.jobs, "events": each})
            begin, end = (1600000000.0 + (n * 100) for n in (first - 1, upto))
            connection.execute(EVENTS, {"begin": begin + 0.05, "end": end + 0.05, "events": each})
        connection.execute("VACUUM ANALYZE jobs, job_events")
        counts = [connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("jobs", "job_events")]
    print(
        json.dumps(
            {
                "machine": machine(),
                "jobs": counts[0],
                "events": counts[1],
                "seconds": round(time.perf_counter() - started),
            }
        )
    )


if __name__ == "__main__":
    main()
