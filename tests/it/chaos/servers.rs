//! A Redis and a Postgres of a test's own, to be hurt.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{library, signal_to};
use crate::harness::until;

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
    listener.local_addr().expect("address").port()
}

pub struct Redis {
    port: u16,
    dir: TempDir,
    child: Child,
    /// The port at which the nodes of a cluster speak to each other.
    bus: Option<u16>,
}

impl Redis {
    pub async fn start() -> Self {
        Self::start_as(false).await
    }

    async fn start_as(node: bool) -> Self {
        // A port that was free a moment ago may be taken: then it is another one.
        loop {
            let (port, dir) = (free_port(), TempDir::new().expect("folder"));
            let bus = node.then(free_port);
            let child = Self::spawn(port, &dir, bus);
            let mut redis = Self { port, dir, child, bus };
            if redis.answers().await {
                return redis;
            }
        }
    }

    fn spawn(port: u16, dir: &TempDir, bus: Option<u16>) -> Child {
        let mut command = Command::new("redis-server");
        if let Some(bus) = bus {
            command.args(["--cluster-enabled", "yes", "--cluster-port", &bus.to_string()]);
        }
        command
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .arg("--dir")
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server")
    }

    /// Waits until it answers; `false`: it has ended, since somebody else has its port.
    async fn answers(&mut self) -> bool {
        let (port, me) = (self.port, format!("process_id:{}\r", self.child.id()));
        let child = RefCell::new(&mut self.child);
        until("Redis answers", async || {
            if child.borrow_mut().try_wait().expect("its state").is_some() {
                return Some(false);
            }
            redis_cli(port, &["INFO", "server"]).contains(&me).then_some(true)
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn cli(&self, args: &[&str]) -> String {
        redis_cli(self.port, args)
    }

    /// As if its machine had lost power.
    pub fn stop(&mut self) {
        self.child.kill().expect("kill -9");
        self.child.wait().expect("dead");
    }

    /// It takes connections and answers nothing, until it goes on.
    pub fn hang(&self) {
        signal_to(self.child.id(), "-STOP");
    }

    pub fn go_on(&self) {
        signal_to(self.child.id(), "-CONT");
    }

    pub async fn restart(&mut self) {
        // Whoever has its port meanwhile gives it back.
        loop {
            self.child = Self::spawn(self.port, &self.dir, self.bus);
            if self.answers().await {
                return;
            }
        }
    }
}

fn redis_cli(port: u16, args: &[&str]) -> String {
    let output = Command::new("redis-cli")
        .args(["-p", &port.to_string()])
        .args(args)
        .output();
    String::from_utf8_lossy(&output.expect("redis-cli").stdout).into_owned()
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Three nodes that share the slots.
pub struct RedisCluster([Redis; 3]);

impl RedisCluster {
    pub async fn start() -> Self {
        let node = || Redis::start_as(true);
        let nodes = [node().await, node().await, node().await];
        let addresses = nodes.each_ref().map(|node| format!("127.0.0.1:{}", node.port));
        let mut create = vec!["--cluster", "create", "--cluster-yes"];
        create.extend(addresses.iter().map(String::as_str));
        let said = nodes[0].cli(&create);
        assert!(said.contains("All 16384 slots covered"), "{said}");
        for node in &nodes {
            until("the cluster is well", async || {
                node.cli(&["CLUSTER", "INFO"])
                    .contains("cluster_state:ok")
                    .then_some(())
            })
            .await;
        }
        Self(nodes)
    }

    pub fn url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{}", self.0[0].port)
    }

    /// Keys on each node.
    pub fn keys(&self) -> [Vec<String>; 3] {
        self.0.each_ref().map(|node| {
            let said = node.cli(&["KEYS", "*"]);
            said.lines().filter(|l| !l.is_empty()).map(String::from).collect()
        })
    }
}

pub struct Postgres {
    bin: PathBuf,
    port: u16,
    dir: TempDir,
    /// What its disk is made of: see `full.c`.
    disk: PathBuf,
}

impl Postgres {
    /// Its files grow unless it is told otherwise.
    pub async fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("pg")
            .tempdir_in("/var/tmp")
            .expect("folder");
        let postgres = Self {
            bin: programs(),
            port: free_port(),
            disk: library(dir.path(), "full"),
            dir,
        };
        let data = postgres.dir.path().join("data");
        if is_root() {
            let owned = Command::new("chown").arg("postgres").arg(postgres.dir.path()).status();
            assert!(owned.expect("chown").success());
        }
        postgres.run(
            "initdb",
            &[
                "-D",
                &data.display().to_string(),
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
            ],
        );
        postgres.control("start");
        postgres
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Without a shutdown: as if it had crashed.
    pub fn restart(&mut self) {
        self.control("stop");
        self.control("start");
    }

    /// Whether its files can't grow any more.
    pub fn fill_disk(&self, full: bool) {
        let mark = self.mark();
        match full {
            true => std::fs::write(mark, "").expect("a file"),
            false => std::fs::remove_file(mark).expect("the file"),
        }
    }

    fn mark(&self) -> PathBuf {
        self.dir.path().join("disk-is-full")
    }

    /// It begins another file of its journal with the next thing that it writes.
    pub fn begin_journal(&self) {
        // While it is about to end it answers nobody.
        self.asked("SELECT pg_switch_wal()");
    }

    pub fn runs(&self) -> bool {
        self.ran(
            "pg_ctl",
            &["-D", &self.dir.path().join("data").display().to_string(), "status"],
        )
    }

    /// After it has ended by itself.
    pub fn start_again(&self) {
        self.control("start");
    }

    pub fn end_connections(&self) {
        let text = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'postgres'";
        assert!(self.asked(text));
    }

    /// Another name to sign in by, so that sessions can be told apart, and the address with it.
    pub fn user(&self, name: &str) -> String {
        assert!(self.asked(&format!("CREATE ROLE {name} SUPERUSER LOGIN")));
        self.url().replace("postgres@", &format!("{name}@"))
    }

    /// Whether a session of this user waits in a transaction for its next statement, and none is at work.
    pub fn idles_in_transaction(&self, user: &str) -> bool {
        let idle = "bool_or(state = 'idle in transaction') AND NOT bool_or(state = 'active')";
        let sessions = format!("FROM pg_stat_activity WHERE usename = '{user}'");
        // What psql can be asked for is whether all went well.
        self.asked(&format!("SELECT 1 / coalesce({idle}, false)::int {sessions}"))
    }

    fn asked(&self, text: &str) -> bool {
        let port = self.port.to_string();
        self.ran(
            "psql",
            &["-q", "-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-c", text],
        )
    }

    fn control(&self, what: &str) {
        let dir = self.dir.path().display().to_string();
        let options = format!(
            "-p {} -k '{dir}' -c listen_addresses=127.0.0.1 -c max_connections=100",
            self.port
        );
        let (data, log) = (format!("{dir}/data"), format!("{dir}/log"));
        match what {
            "start" => self.run("pg_ctl", &["-D", &data, "-l", &log, "-w", "-o", &options, "start"]),
            _ => self.run("pg_ctl", &["-D", &data, "-m", "immediate", "-w", "stop"]),
        }
    }

    fn run(&self, program: &str, args: &[&str]) {
        assert!(self.ran(program, args), "{program}");
    }

    fn ran(&self, program: &str, args: &[&str]) -> bool {
        // Postgres refuses to run as root.
        let mut command = match is_root() {
            true => {
                let mut command = Command::new("runuser");
                command.args(["-u", "postgres", "--"]).arg(self.bin.join(program));
                command
            }
            false => Command::new(self.bin.join(program)),
        };
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("LD_PRELOAD", &self.disk)
            .env("DISK_IS_FULL", self.mark())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().expect(program).success()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.runs() {
            self.control("stop");
        }
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().expect("id");
    output.stdout.starts_with(b"0\n")
}

/// Where Postgres' programs are: Debian keeps them out of PATH, one folder a version.
fn programs() -> PathBuf {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|folder| folder.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    versions.retain(|bin| bin.join("initdb").exists());
    versions.sort();
    versions.pop().unwrap_or_default()
}
