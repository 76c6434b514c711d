# Redis and Postgres of one's own, for tests and benchmarks: on free ports, in a folder that goes with them. Sourced by
# whoever has a function die; it calls servers_begin FOLDER first, and servers_end at its end, however that comes.

servers_work=
redis_pid=
redis_url=
redis_version=
pg_bin=
pg_port=
pg_url=
pg_version=
pg_running=

as_postgres() {
  # Postgres refuses to run as root.
  if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

free_port() {
  node -e 'const s = require("node:net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close() })'
}

# The folder of Postgres' programs, in pg_bin. Debian keeps them out of PATH, one folder a version: the newest.
find_postgres() {
  pg_bin=$(find /usr/lib/postgresql -mindepth 3 -maxdepth 3 -path '*/bin/initdb' 2>/dev/null | sort -V | tail -1)
  [ -n "$pg_bin" ] || pg_bin=$(command -v initdb || true)
  [ -n "$pg_bin" ] || return 1
  pg_bin=$(dirname "$pg_bin")
}

servers_begin() {
  servers_work=$(mktemp -d "$1/windlass-servers.XXXXXX")
  # Postgres, when it is another user's, must reach the folders below that are its own.
  chmod 711 "$servers_work"
}

servers_end() {
  if [ -n "$pg_running" ]; then
    (cd "$servers_work" && as_postgres "$pg_bin/pg_ctl" -D "$servers_work/postgres/data" -m immediate -w stop >/dev/null 2>&1)
  fi
  if [ -n "$redis_pid" ]; then
    kill "$redis_pid" 2>/dev/null
    wait "$redis_pid" 2>/dev/null
  fi
  [ -z "$servers_work" ] || rm -rf -- "$servers_work"
}

# Without persistence. Sets redis_url and redis_version.
start_redis() {
  command -v redis-server >/dev/null && command -v redis-cli >/dev/null || die "redis-server is missing: apt-get install redis-server"
  local port i
  port=$(free_port)
  mkdir "$servers_work/redis"
  redis-server --port "$port" --bind 127.0.0.1 --dir "$servers_work/redis" --save '' --appendonly no >"$servers_work/redis/log" 2>&1 &
  redis_pid=$!
  for ((i = 0; ; i++)); do
    [ "$(redis-cli -p "$port" ping 2>/dev/null)" != PONG ] || break
    [ $i -lt 100 ] || die "Redis does not answer: $(tail -5 "$servers_work/redis/log")"
    sleep 0.1
  done
  redis_url=redis://127.0.0.1:$port
  redis_version=$(redis-cli -p "$port" info server | sed -n 's/^redis_version:\([^\r]*\).*/\1/p')
}

# With its defaults, and the settings that are given (name=value). Sets pg_port, pg_url and pg_version.
start_postgres() {
  find_postgres || die "Postgres is missing: apt-get install postgresql"
  local settings=() setting
  for setting in "$@"; do settings+=(-c "$setting"); done
  pg_port=$(free_port)
  mkdir "$servers_work/postgres"
  [ "$(id -u)" != 0 ] || chown postgres "$servers_work/postgres"
  (
    cd "$servers_work/postgres"
    as_postgres "$pg_bin/initdb" -D data -U postgres -A trust -E UTF8 --locale=C >"$servers_work/initdb.log" 2>&1 ||
      die "initdb failed: $(tail -5 "$servers_work/initdb.log")"
  )
  pg_running=1
  (
    cd "$servers_work/postgres"
    as_postgres "$pg_bin/pg_ctl" -D data -l log -w -t 60 \
      -o "-p $pg_port -k '$servers_work/postgres' -c listen_addresses=127.0.0.1 ${settings[*]}" start >/dev/null ||
      die "Postgres does not start: $(tail -5 log)"
  )
  pg_url=postgres://postgres@127.0.0.1:$pg_port
  pg_version=$("$pg_bin/postgres" --version | sed 's/[^0-9]*\([0-9.]*\).*/\1/')
}
