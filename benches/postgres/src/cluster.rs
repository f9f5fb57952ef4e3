//! The cluster that everybody backs up, and the servers that show whether a restore is right.
//!
//! What it may not know: who backs up. Where data comes from and goes: programs of PostgreSQL in, a cluster with known rows out.

use peers::timed::Job;
use std::path::{Path, PathBuf};

/// The database.
pub const DATABASE: &str = "bench";
/// The port of the cluster; restored ones listen on the next.
pub const PORT: u16 = 54_930;
const USER: &str = "bench";

/// Where the programs are, and where everything is made.
pub struct Cluster {
    /// Directory of the server's programs.
    pub bin: PathBuf,
    /// Of everything.
    pub work: PathBuf,
}

impl Cluster {
    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.work.join("data")
    }

    /// The directory of its socket.
    pub fn socket(&self) -> PathBuf {
        self.work.join("socket")
    }

    /// A program of the server's version.
    pub fn program(&self, name: &str) -> Job {
        Job::new(&self.bin.join(name))
            .env("PGHOST", self.socket())
            .env("PGPORT", PORT.to_string())
            .env("PGUSER", USER)
            .env("PGDATABASE", DATABASE)
    }

    /// Makes it: `scale` times 15 MB of pgbench's tables, half as much of rows that compress as those of real shops do, and four
    /// hundred small tables. `archive` is what the server calls for its log.
    ///
    /// # Errors
    /// What a program of the server said.
    pub fn make(&self, scale: u64, archive: &Path) -> Result<(), String> {
        let data = self.data();
        std::fs::create_dir_all(self.socket()).map_err(|e| format!("{}: {e}", self.socket().display()))?;
        self.program("initdb").words("-k -A trust --no-locale -E UTF8 -U").arg(USER).arg("-D").arg(&data).output()?;
        let settings = format!(
            "unix_socket_directories = '{}'\nlisten_addresses = ''\nport = {PORT}\nshared_buffers = 1GB\nmax_wal_size = 4GB\n\
             checkpoint_timeout = 30min\nmaintenance_work_mem = 256MB\narchive_mode = on\narchive_command = '{} %p'\n",
            self.socket().display(),
            archive.display()
        );
        append(&data.join("postgresql.conf"), &settings)?;
        self.start(&data, PORT)?;
        self.program("createdb").words("-T template0").arg(DATABASE).output()?;
        self.program("pgbench").words("-i -q -s").arg(scale.to_string()).output()?;
        self.sql(&format!(
            "create table events(id bigint, ts timestamptz, usr uuid, kind text, body jsonb);
             insert into events select i, timestamptz '2024-01-01' + i * interval '7 second',
               md5('u' || (i * 7919 % 50000))::uuid, (array['login','order','view','refund','export'])[1 + i % 5],
               jsonb_build_object('ip', '10.' || (i * 31 % 256) || '.' || (i * 17 % 256), 'sid', md5(i::text),
                 'path', '/shop/' || (i * 13 % 977) || '/item/' || (i * 7919 % 99991),
                 'note', substr(repeat(md5((i * 3)::text) || ' ', 4), 1, 40 + (i * 11 % 90)::int))
               from generate_series(1::bigint, {}) i;
             create index on events(id); create index on events(usr, ts);
             do $$ begin for i in 1..400 loop
               execute format('create table t%s(id int primary key, v text)', i);
               execute format('insert into t%s select g, md5(g::text) from generate_series(1, 50) g', i);
             end loop; end $$",
            scale * 16_000
        ))?;
        self.sql("vacuum analyze events")?;
        self.sql("checkpoint").map(drop)
    }

    /// Changes rows all over it: so many transactions of pgbench.
    ///
    /// # Errors
    /// What a program of the server said.
    pub fn change(&self, transactions: u64) -> Result<(), String> {
        let each = (transactions / 4).max(1).to_string();
        self.program("pgbench").words("-n -c 4 -j 2 --random-seed 7 -t").arg(each).output()?;
        self.sql("checkpoint").map(drop)
    }

    /// The answer to a statement of the cluster.
    ///
    /// # Errors
    /// What `psql` said.
    pub fn sql(&self, statement: &str) -> Result<String, String> {
        self.ask(PORT, DATABASE, statement)
    }

    fn ask(&self, port: u16, database: &str, statement: &str) -> Result<String, String> {
        let psql = self.program("psql").words("-XAtq -v ON_ERROR_STOP=1 -p").arg(port.to_string());
        Ok(psql.arg("-d").arg(database).arg("-c").arg(statement).output()?.trim().to_owned())
    }

    /// What tells whether two databases hold the same rows.
    ///
    /// # Errors
    /// What `psql` said.
    pub fn rows(&self, port: u16, database: &str) -> Result<String, String> {
        let one = |table: &str| format!("select count(*), sum(hashtextextended(t::text, 0)) from {table} t");
        let tables =
            ["pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history", "events", "t1", "t400"];
        self.ask(port, database, &tables.map(one).join(" union all "))
    }

    /// Starts a server.
    ///
    /// # Errors
    /// What `pg_ctl` said.
    pub fn start(&self, data: &Path, port: u16) -> Result<(), String> {
        let log = self.work.join("server.log");
        let options = format!("-p {port} -k {}", self.socket().display());
        let start = self.program("pg_ctl").words("-w -t 600 -D").arg(data).arg("-l").arg(&log).arg("-o").arg(options);
        start.arg("start").output().map(drop).map_err(|e| format!("{e}; see {}", log.display()))
    }

    /// Stops one.
    ///
    /// # Errors
    /// What `pg_ctl` said.
    pub fn stop(&self, data: &Path) -> Result<(), String> {
        self.program("pg_ctl").words("-w -m fast -D").arg(data).arg("stop").output().map(drop)
    }

    /// That a server recovers on this directory and has these rows.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn comes_back(&self, data: &Path, rows: &str) -> Result<(), String> {
        self.start(data, PORT + 1)?;
        let found = self.recovered().and_then(|()| self.rows(PORT + 1, DATABASE));
        self.stop(data)?;
        if found? == rows { Ok(()) } else { Err("the restored rows are others".to_owned()) }
    }

    fn recovered(&self) -> Result<(), String> {
        for _ in 0..6000 {
            if self.ask(PORT + 1, "postgres", "select pg_is_in_recovery()")? == "f" {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        Err("the recovery does not end".to_owned())
    }
}

/// Adds text to a file.
///
/// # Errors
/// When it cannot be written.
pub fn append(path: &Path, text: &str) -> Result<(), String> {
    use std::io::Write;
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| format!("{}: {e}", path.display()))
}
