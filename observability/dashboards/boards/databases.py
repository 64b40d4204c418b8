"""Postgres and Redis: what they tell the services, and more where an exporter runs."""

from observability.dashboards.model import Board, Panel, Query, Row, Threshold
from observability.dashboards.queries import SHOP, WINDOW, quantile, select, sum_rate, take_max, take_sum

CONNECTIONS = "caravan_database_connections"
HIT = sum_rate("pg_stat_database_blks_hit", "datname")
READ = sum_rate("pg_stat_database_blks_read", "datname")
SYSTEM_DATABASES = 'datname!~"template.*|postgres"'

POSTGRES_NOW = (
    Panel(
        "stat",
        "Connections",
        "Connections to the databases of all services.",
        "none",
        (Query(f"sum({take_max(CONNECTIONS, 'database, state')})", "connections"),),
        height=4,
    ),
    Panel(
        "stat",
        "Oldest transaction",
        "Age of the oldest transaction. It holds its locks and stops the vacuum of its database.",
        "s",
        (Query(take_max("caravan_database_oldest_transaction_seconds"), "oldest"),),
        height=4,
        thresholds=(Threshold(30, "yellow"), Threshold(120, "red")),
    ),
    Panel(
        "stat",
        "Statements per second",
        "SQL statements that all services send.",
        "ops",
        (Query(sum_rate("caravan_database_statements_total"), "statements"),),
        height=4,
        decimals=0,
    ),
)

POSTGRES_USE = (
    Panel(
        "lines",
        "Connections by database",
        "Connections to each service's database, whatever they do.",
        "none",
        (Query(f"sum by (database) ({take_max(CONNECTIONS, 'database, state')})", "{{database}}"),),
        stacked=True,
    ),
    Panel(
        "lines",
        "Connections by state",
        "active: runs a statement; idle: waits in a pool; idle in transaction: holds locks and does nothing.",
        "none",
        (Query(f"sum by (state) ({take_max(CONNECTIONS, 'database, state')})", "{{state}}"),),
        stacked=True,
    ),
    Panel(
        "lines",
        "Oldest transaction by database",
        "Age of the oldest transaction of each database.",
        "s",
        (Query(take_max("caravan_database_oldest_transaction_seconds", "database"), "{{database}}"),),
        thresholds=(Threshold(120, "red"),),
    ),
    Panel(
        "lines",
        "Pool in use by service",
        "Share of its pool that a service uses. At 100 % the next statement waits.",
        "percentunit",
        (
            Query(
                take_sum("caravan_database_pool_connections", "service", f'{SHOP}, state="used"')
                + " / "
                + take_sum("caravan_database_pool_limit", "service"),
                "{{service}}",
            ),
        ),
        thresholds=(Threshold(0.8, "yellow"), Threshold(1, "red")),
        maximum=1,
    ),
    Panel(
        "lines",
        "Wait for a connection (p95)",
        "95 of 100 statements waited at most this long for a connection of the pool.",
        "s",
        (Query(quantile(0.95, "caravan_database_pool_wait_seconds", "service"), "{{service}}"),),
        thresholds=(Threshold(0.5, "red"),),
    ),
    Panel(
        "lines",
        "Statements by service",
        "SQL statements per second that each service sends.",
        "ops",
        (Query(sum_rate("caravan_database_statements_total", "service"), "{{service}}"),),
        stacked=True,
    ),
)

POSTGRES_SERVER = (
    Panel(
        "lines",
        "Connections of the limit",
        "Share of max_connections in use. At 100 % new processes can't start and pools can't grow.",
        "percentunit",
        (
            Query(
                f"{take_sum('pg_stat_activity_count')} / {take_max('pg_settings_max_connections')}",
                "in use",
            ),
        ),
        thresholds=(Threshold(0.8, "red"),),
        maximum=1,
    ),
    Panel(
        "lines",
        "Transactions",
        "Commits per second of each database, and rollbacks of all.",
        "ops",
        (
            Query(
                f"sum by (datname) (rate({select('pg_stat_database_xact_commit', f'{SHOP}, {SYSTEM_DATABASES}')}"
                f"[{WINDOW}]))",
                "{{datname}}",
            ),
            Query(sum_rate("pg_stat_database_xact_rollback"), "rollbacks"),
        ),
    ),
    Panel(
        "lines",
        "Read from memory",
        "Share of blocks that were in Postgres's own memory. Below 99 % the working set no longer fits.",
        "percentunit",
        (Query(f"{HIT} / ({HIT} + {READ} > 0)", "{{datname}}"),),
        maximum=1,
    ),
    Panel(
        "bars",
        "Dead rows",
        "The ten tables with the largest share of dead rows: the vacuum does not keep up, or a transaction stops it.",
        "percentunit",
        (
            Query(
                f"topk(10, {take_max('pg_stat_user_tables_n_dead_tup', 'datname, relname')} / "
                f"({take_max('pg_stat_user_tables_n_live_tup', 'datname, relname')} > 1000))",
                "{{datname}}.{{relname}}",
            ),
        ),
        thresholds=(Threshold(0.2, "yellow"), Threshold(0.5, "red")),
    ),
    Panel(
        "lines",
        "Kept for replicas",
        "Log that a replication slot holds back. A slot that nobody reads fills the disk.",
        "bytes",
        (Query(take_max("pg_replication_slots_pg_wal_lsn_diff", "slot_name"), "{{slot_name}}"),),
        thresholds=(Threshold(1_000_000_000, "yellow"), Threshold(10_000_000_000, "red")),
    ),
    Panel(
        "lines",
        "Size by database",
        "Bytes on disk of each database.",
        "bytes",
        (Query(take_max("pg_database_size_bytes", "datname", f"{SHOP}, {SYSTEM_DATABASES}"), "{{datname}}"),),
        stacked=True,
    ),
)

REDIS_NOW = (
    Panel(
        "stat",
        "Memory of the limit",
        "Memory in use as a share of maxmemory, of the Redis of the cache and that of the jobs. The cache may be full; "
        "the jobs' must not. 0 % where no limit is set.",
        "percentunit",
        (
            Query(
                f"{take_max('caravan_redis_memory_bytes', 'redis')}"
                f" / ({take_max('caravan_redis_memory_limit_bytes', 'redis')} > 0)"
                f" or 0 * {take_max('caravan_redis_memory_bytes', 'redis')}",
                "{{redis}}",
            ),
        ),
        width=12,
        height=4,
        thresholds=(Threshold(0.7, "yellow"), Threshold(0.85, "red")),
        decimals=1,
    ),
    Panel(
        "stat",
        "Evicted in the last hour",
        "Keys that were thrown out for want of memory. Those of the cache come back; of the jobs' none may go.",
        "none",
        (
            Query(
                f"max by (redis) (delta({select('caravan_redis_evicted_keys')}[1h]))",
                "{{redis}}",
            ),
        ),
        width=12,
        height=4,
        thresholds=(Threshold(1, "yellow"),),
        decimals=0,
    ),
)

REDIS_USE = (
    Panel(
        "lines",
        "Memory",
        "Memory in use by the Redis of the cache and that of the jobs.",
        "bytes",
        (Query(take_max("caravan_redis_memory_bytes", "redis"), "{{redis}}"),),
    ),
    Panel(
        "lines",
        "Memory limit",
        "maxmemory of each; 0 where none is set.",
        "bytes",
        (Query(take_max("caravan_redis_memory_limit_bytes", "redis"), "{{redis}}"),),
    ),
    Panel(
        "lines",
        "Keys evicted",
        "Keys per second thrown out for want of memory.",
        "ops",
        (Query(f"max by (redis) (deriv({select('caravan_redis_evicted_keys')}[5m]))", "{{redis}}"),),
        thresholds=(Threshold(1, "yellow"),),
    ),
)

REDIS_SERVER = (
    Panel(
        "lines",
        "Commands",
        "Commands per second of each Redis.",
        "ops",
        (Query(sum_rate("redis_commands_processed_total", "instance"), "{{instance}}"),),
    ),
    Panel(
        "lines",
        "Duration of a command",
        "Mean time of a command inside Redis, of the ten slowest.",
        "s",
        (
            Query(
                f"topk(10, {sum_rate('redis_commands_duration_seconds_total', 'cmd')}"
                f" / ({sum_rate('redis_commands_total', 'cmd')} > 0))",
                "{{cmd}}",
            ),
        ),
    ),
    Panel(
        "lines",
        "Clients, and connections refused",
        "Connected clients, and connections per second that were refused for want of room.",
        "none",
        (
            Query(take_sum("redis_connected_clients", "instance"), "{{instance}}"),
            Query(sum_rate("redis_rejected_connections_total"), "refused per second"),
        ),
    ),
)

BOARDS = (
    Board(
        "postgres",
        "Postgres",
        "Connections, transactions and pools, as the services see them; the server's own figures where its exporter "
        "runs.",
        (
            Row("Is there room?", POSTGRES_NOW),
            Row("Who uses it?", POSTGRES_USE),
            Row("The server, by its exporter", POSTGRES_SERVER),
        ),
    ),
    Board(
        "redis",
        "Redis",
        "The Redis of the cache, which may lose keys, and that of the jobs, which must not.",
        (
            Row("Is there room?", REDIS_NOW),
            Row("How much do they hold?", REDIS_USE),
            Row("The server, by its exporter", REDIS_SERVER),
        ),
    ),
)
