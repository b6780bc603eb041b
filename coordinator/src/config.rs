//! `config.toml` in the home folder: raw keys, merged with flags, then one validated [`Config`].

use std::{net::SocketAddr, num::NonZeroUsize, path::Path, time::Duration};

use params::Name;
use serde::Deserialize;

use crate::store::Compaction;

/// The file in the home folder.
const FILE: &str = "config.toml";

/// What `init` writes.
pub(crate) const TEMPLATE: &str = r#"# Conclave coordinator. Flags of `serve` win over this file.

# Names this federation; part of every identity. Changing it makes all certificates invalid.
trust_domain = "conclave"

# DNS names and IP addresses by which workers and users reach this host; the first goes into tokens.
names = NAMES

# One port for everything over mutual TLS.
listen = "LISTEN"

# Predictions over plain HTTP: loopback only. Leave out to serve none.
http = "127.0.0.1:7480"

# Threads of libtorch for each of evaluation and prediction.
threads = 1

# Threads of one aggregation; 0 is one for each core.
aggregate_threads = 0

# A worker that was not heard of for this long has lost its work.
lease = "10s"

# How long the certificate of a member is good for.
certificate_ttl = "30days"

[limits]
# Memory for uploads in flight; more of them wait, and a larger one goes alone.
upload_budget = 268435456
# The largest single upload: an update, a table, initial weights.
upload_bytes = 1073741824
connections = 4096
connections_per_address = 1024
# Below this much free space, no upload and no new run is taken; what is there goes on.
disk_reserve = 268435456

[store]
# Entries of the journal after which a snapshot is taken, so that a start need not read all of it.
snapshot_every = 10000
# Files that nothing names are removed when they are older than this.
garbage_age = "1h"
"#;

/// Flags of `serve`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) http: Option<SocketAddr>,
}

/// What `serve` runs with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    pub(crate) trust_domain: Name,
    pub(crate) names: Vec<String>,
    pub(crate) listen: SocketAddr,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) threads: usize,
    pub(crate) aggregate_threads: NonZeroUsize,
    pub(crate) lease: Duration,
    pub(crate) certificate_ttl: Duration,
    pub(crate) limits: Limits,
    pub(crate) compaction: Compaction,
}

/// Bounds on what peers may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Bytes.
    pub(crate) upload_budget: u64,
    /// Bytes.
    pub(crate) upload_bytes: u64,
    pub(crate) connections: usize,
    pub(crate) connections_per_address: usize,
    /// Bytes.
    pub(crate) disk_reserve: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            upload_budget: 256 << 20,
            upload_bytes: 1 << 30,
            connections: 4096,
            connections_per_address: 1024,
            disk_reserve: 256 << 20,
        }
    }
}

impl Limits {
    fn check(&self, faults: &mut Vec<String>) {
        let at_least_one = [
            ("upload_bytes", self.upload_bytes),
            ("connections", self.connections as u64),
            ("connections_per_address", self.connections_per_address as u64),
        ];
        for (key, value) in at_least_one {
            if value == 0 {
                faults.push(format!("limits.{key} = 0: must be at least 1"));
            }
        }
        if self.upload_budget == 0 {
            faults.push(
                "limits.upload_budget = 0: must be at least 1; one upload at a time always fits".to_owned(),
            );
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// There is no such file.
    #[error("{path}: {cause}; `conclave-coordinator init --home DIR` makes a home")]
    Read { path: String, cause: std::io::Error },
    /// The file is not the TOML that is expected.
    #[error("{path}: {cause}")]
    Syntax { path: String, cause: toml::de::Error },
    /// All values that break a bound.
    #[error("{path}: {}", .faults.join("; "))]
    Faults { path: String, faults: Vec<String> },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    trust_domain: String,
    names: Vec<String>,
    listen: String,
    http: Option<String>,
    #[serde(default = "one")]
    threads: usize,
    #[serde(default)]
    aggregate_threads: usize,
    lease: Option<String>,
    certificate_ttl: Option<String>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    store: RawStore,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawStore {
    snapshot_every: Option<u64>,
    garbage_age: Option<String>,
}

fn one() -> usize {
    1
}

impl Config {
    /// Reads the home's file; flags win over it.
    pub(crate) fn load(home: &Path, flags: &Flags) -> Result<Self, ConfigError> {
        let path = home.join(FILE);
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(&path)
            .map_err(|cause| ConfigError::Read { path: shown.clone(), cause })?;
        Self::parse(&text, flags, &shown)
    }

    fn parse(text: &str, flags: &Flags, path: &str) -> Result<Self, ConfigError> {
        let raw: Raw =
            toml::from_str(text).map_err(|cause| ConfigError::Syntax { path: path.to_owned(), cause })?;
        let mut faults = Vec::new();
        let trust_domain = keep(raw.trust_domain.parse::<Name>(), "trust_domain", &mut faults);
        let listen = flags.listen.or_else(|| keep(raw.listen.parse(), "listen", &mut faults));
        let http = flags.http.or_else(|| raw.http.and_then(|text| keep(text.parse(), "http", &mut faults)));
        let lease = duration(raw.lease, "lease", (1, 3600), 10, &mut faults);
        let month = 30 * 86_400;
        let certificate_ttl =
            duration(raw.certificate_ttl, "certificate_ttl", (60, 12 * month), month, &mut faults);
        let every = raw.store.snapshot_every.unwrap_or(10_000);
        if every == 0 {
            faults.push("store.snapshot_every = 0: must be at least 1".to_owned());
        }
        let garbage_age =
            duration(raw.store.garbage_age, "store.garbage_age", (0, 365 * 86_400), 3600, &mut faults);
        if raw.names.is_empty() {
            faults.push("names = []: at least one DNS name or IP address is needed".to_owned());
        }
        if raw.aggregate_threads > 1024 {
            faults.push(format!("aggregate_threads = {}: 0 to 1024 are allowed", raw.aggregate_threads));
        }
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let aggregate_threads = NonZeroUsize::new(raw.aggregate_threads).unwrap_or_else(cores);
        if !(1..=1024).contains(&raw.threads) {
            faults.push(format!("threads = {}: 1 to 1024 are allowed", raw.threads));
        }
        if let Some(http) = http.filter(|a: &SocketAddr| !a.ip().is_loopback()) {
            faults.push(format!(
                "http = \"{http}\": plain HTTP is served on loopback only; put a TLS proxy in front, or use gRPC on the mTLS port"
            ));
        }
        raw.limits.check(&mut faults);
        match (trust_domain, listen, faults.is_empty()) {
            (Some(trust_domain), Some(listen), true) => Ok(Self {
                trust_domain,
                names: raw.names,
                listen,
                http,
                threads: raw.threads,
                aggregate_threads,
                lease,
                certificate_ttl,
                limits: raw.limits,
                compaction: Compaction { every, garbage_age },
            }),
            _ => Err(ConfigError::Faults { path: path.to_owned(), faults }),
        }
    }
}

fn keep<T, E: std::fmt::Display>(value: Result<T, E>, key: &str, faults: &mut Vec<String>) -> Option<T> {
    value.map_err(|e| faults.push(format!("{key}: {e}"))).ok()
}

fn duration(
    text: Option<String>,
    key: &str,
    (min, max): (u64, u64),
    default: u64,
    faults: &mut Vec<String>,
) -> Duration {
    let parsed = text.and_then(|text| keep(humantime::parse_duration(&text), key, faults));
    let value = parsed.unwrap_or(Duration::from_secs(default));
    if value < Duration::from_secs(min) || value > Duration::from_secs(max) {
        let show = |s| humantime::format_duration(Duration::from_secs(s)).to_string();
        faults.push(format!(
            "{key} = \"{}\": {} to {} is allowed",
            humantime::format_duration(value),
            show(min),
            show(max)
        ));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> String {
        TEMPLATE.replace("NAMES", "[\"localhost\"]").replace("LISTEN", "127.0.0.1:7433")
    }

    #[test]
    fn the_file_of_init_gives_the_defaults() {
        let config = Config::parse(&template(), &Flags::default(), "x").unwrap();
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.lease, Duration::from_secs(10));
        assert_eq!(config.certificate_ttl, Duration::from_secs(30 * 86_400));
        assert_eq!((config.threads, config.listen.port()), (1, 7433));
        assert_eq!(config.compaction.every, 10_000);
        assert_eq!(config.compaction.garbage_age, Duration::from_secs(3600));
    }

    #[test]
    fn flags_win() {
        let flags = Flags {
            listen: Some("127.0.0.1:1".parse().unwrap()),
            http: Some("127.0.0.1:2".parse().unwrap()),
        };
        let config = Config::parse(&template(), &flags, "x").unwrap();
        assert_eq!((config.listen.port(), config.http.unwrap().port()), (1, 2));
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let text = template()
            .replace("\nthreads = 1", "\nthreads = 0")
            .replace("aggregate_threads = 0", "aggregate_threads = 1025")
            .replace("\"10s\"", "\"1h 1s\"")
            .replace("127.0.0.1:7480", "0.0.0.0:7480")
            .replace("connections = 4096", "connections = 0");
        let error = Config::parse(&text, &Flags::default(), "config.toml").unwrap_err().to_string();
        for part in [
            "threads = 0",
            "aggregate_threads = 1025",
            "lease = \"1h 1s\"",
            "loopback only",
            "limits.connections = 0",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let unknown = format!("insecure = true\n{}", template());
        assert!(
            Config::parse(&unknown, &Flags::default(), "x").unwrap_err().to_string().contains("insecure")
        );
    }
}
