//! `conclave-worker check`: would `run` work? One line per part, in the order in which it needs them.

use std::{net::SocketAddr, time::Duration};

use identity::ClientHome;
use service::exit::{Exit, chain};
use tokio::net::{TcpStream, lookup_host};
use tonic::transport::Channel;

use crate::{
    app,
    args::{Check, Host, Output},
    client,
    compute::Compute,
    error,
    tables::{self, Tables},
};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How one part went.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Ok(String),
    /// What is wrong, the next step, and what it means for the exit code.
    Failed(String, Exit),
    /// A part that it needs failed.
    Skipped,
}

/// A line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    part: &'static str,
    outcome: Outcome,
}

/// Tries every part, prints the report, and returns success only when all of them work; else what
/// the first failure means.
pub(crate) async fn check(args: Check, output: Output) -> Exit {
    let mut lines = Vec::new();
    coordinator(&args, &mut lines).await;
    host(args.host, &mut lines).await;
    print(&lines, output);
    lines.iter().find_map(Line::failure).unwrap_or(Exit::Success)
}

/// Identity, address, connection, handshake, role.
async fn coordinator(args: &Check, lines: &mut Vec<Line>) {
    let Some(home) = note(lines, "identity", identity(args)) else {
        return skip(lines, &["resolve", "connect", "handshake", "authorise"]);
    };
    let Some(addresses) = note(lines, "resolve", resolve(&home).await) else {
        return skip(lines, &["connect", "handshake", "authorise"]);
    };
    let Some(()) = note(lines, "connect", connect(&addresses).await) else {
        return skip(lines, &["handshake", "authorise"]);
    };
    let Some(channel) = note(lines, "handshake", handshake(&home).await) else {
        return skip(lines, &["authorise"]);
    };
    note(lines, "authorise", authorise(&home, channel).await);
}

/// Device and tables.
async fn host(host: Host, lines: &mut Vec<Line>) {
    let device = match Compute::start(host.device, host.threads).await {
        Ok((_, hardware)) => {
            let mut text = vec![hardware.description];
            text.extend(hardware.notes);
            Ok((text.join("; "), ()))
        }
        Err(e) => Err((chain(&e), Exit::Failure)),
    };
    note(lines, "device", device);
    for arg in &host.data {
        let table = Tables::load(std::slice::from_ref(arg)).map_err(|e| (chain(&e), Exit::Failure));
        let text = |tables: Tables| {
            let sizes = |t: &proto::v1::Dataset| {
                format!("'{}': {} rows, columns {}", t.name, t.rows, t.columns.join(", "))
            };
            tables.announce().iter().map(sizes).collect::<String>()
        };
        note(lines, "data", table.map(|tables| (text(tables), ())));
    }
    if let Err(error) = tables::unique(&host.data) {
        note::<()>(lines, "data", Err((chain(&error), Exit::Usage)));
    }
}

/// The words of the report with the value for the next part, or what is wrong.
type Tried<T> = Result<(String, T), (String, Exit)>;

fn identity(args: &Check) -> Tried<ClientHome> {
    let home = app::open(&args.home.dir).map_err(|e| (chain(&e), Exit::from(&e)))?;
    let days = home.not_after_unix().saturating_sub(service::clock::unix_ms() / 1000) / 86_400;
    Ok((format!("{}, certificate valid for {days} more days", home.principal()), home))
}

async fn resolve(home: &ClientHome) -> Tried<Vec<SocketAddr>> {
    let address = home.coordinator();
    let step = "check the name in client.toml and the name service of this host";
    match lookup_host(address).await.map(Vec::from_iter) {
        Ok(found) if !found.is_empty() => {
            let text: Vec<String> = found.iter().map(ToString::to_string).collect();
            Ok((format!("{address} is {}", text.join(", ")), found))
        }
        Ok(_) => Err((format!("{address} has no address: {step}"), Exit::Unreachable)),
        Err(e) => Err((format!("{address}: {e}; {step}"), Exit::Unreachable)),
    }
}

async fn connect(addresses: &[SocketAddr]) -> Tried<()> {
    match tokio::time::timeout(CONNECT, TcpStream::connect(addresses)).await {
        Ok(Ok(stream)) => {
            let peer = stream.peer_addr().map_or_else(|_| "connected".to_owned(), |peer| peer.to_string());
            Ok((format!("TCP to {peer}"), ()))
        }
        Ok(Err(e)) => Err((
            format!("{e}: check that the coordinator runs and that no firewall is between"),
            Exit::Unreachable,
        )),
        Err(_) => Err((
            format!(
                "no answer within {} s: a firewall drops the packets, or the host is down",
                CONNECT.as_secs()
            ),
            Exit::Unreachable,
        )),
    }
}

async fn handshake(home: &ClientHome) -> Tried<Channel> {
    match identity::connect(home, None).await {
        Ok(channel) => Ok(("TLS 1.3, the coordinator is the one that we joined".to_owned(), channel)),
        Err(e) => Err((chain(&e), error::of_dial(&e))),
    }
}

async fn authorise(home: &ClientHome, channel: Channel) -> Tried<()> {
    match client::probe(channel).await {
        Ok(()) => Ok((format!("the coordinator accepts {}", home.principal()), ())),
        Err(e) => Err((chain(&e), error::of_call(&e))),
    }
}

fn note<T>(lines: &mut Vec<Line>, part: &'static str, tried: Tried<T>) -> Option<T> {
    let (outcome, value) = match tried {
        Ok((text, value)) => (Outcome::Ok(text), Some(value)),
        Err((text, exit)) => (Outcome::Failed(text, exit), None),
    };
    lines.push(Line { part, outcome });
    value
}

fn skip(lines: &mut Vec<Line>, parts: &[&'static str]) {
    lines.extend(parts.iter().map(|&part| Line { part, outcome: Outcome::Skipped }));
}

impl Line {
    fn failure(&self) -> Option<Exit> {
        match self.outcome {
            Outcome::Failed(_, exit) => Some(exit),
            _ => None,
        }
    }

    /// The mark and the words.
    fn words(&self) -> (&'static str, &str) {
        match &self.outcome {
            Outcome::Ok(text) => ("ok", text),
            Outcome::Failed(text, _) => ("FAILED", text),
            Outcome::Skipped => ("skipped", "needs the part above"),
        }
    }

    fn text(&self) -> String {
        let (mark, text) = self.words();
        format!("{:<10} {mark:<8} {text}", self.part)
    }

    fn json(&self) -> serde_json::Value {
        let (mark, text) = self.words();
        serde_json::json!({ "part": self.part, "result": mark.to_lowercase(), "detail": text })
    }
}

#[allow(clippy::print_stdout)]
fn print(lines: &[Line], output: Output) {
    match output {
        Output::Table => lines.iter().for_each(|line| println!("{}", line.text())),
        Output::Json => println!("{}", lines.iter().map(Line::json).collect::<serde_json::Value>()),
        Output::Jsonl => lines.iter().for_each(|line| println!("{}", line.json())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Home;

    fn args(dir: &std::path::Path, data: &[&str]) -> Check {
        let data = data.iter().map(|text| text.parse().unwrap()).collect();
        let host = Host { device: model::DeviceChoice::Cpu, threads: 1, data };
        Check { home: Home { dir: dir.to_owned() }, host }
    }

    #[tokio::test]
    async fn every_part_has_a_line_also_without_an_identity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        std::fs::write(&path, "x,label\n1,a\n").unwrap();
        let good = format!("t={}", path.display());
        let args = args(dir.path(), &[&good, "u=/does/not/exist.csv"]);
        let mut lines = Vec::new();
        coordinator(&args, &mut lines).await;
        host(args.host, &mut lines).await;
        let marks: Vec<_> = lines.iter().map(|line| (line.part, line.words().0)).collect();
        assert_eq!(
            marks,
            [
                ("identity", "FAILED"),
                ("resolve", "skipped"),
                ("connect", "skipped"),
                ("handshake", "skipped"),
                ("authorise", "skipped"),
                ("device", "ok"),
                ("data", "ok"),
                ("data", "FAILED"),
            ]
        );
        assert_eq!(lines[6].words().1, "'t': 1 rows, columns x, label");
        assert_eq!(lines.iter().find_map(Line::failure), Some(Exit::Unauthorised));
    }

    #[tokio::test]
    async fn a_name_that_is_given_twice_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        std::fs::write(&path, "x,label\n1,a\n").unwrap();
        let table = format!("t={}", path.display());
        let mut lines = Vec::new();
        host(args(dir.path(), &[&table, &table]).host, &mut lines).await;
        assert_eq!(lines.last().unwrap().words().1, "--data names 't' twice, give each table its own name");
    }

    #[tokio::test]
    async fn a_closed_port_is_unreachable() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(connect(&[address]).await.is_ok());
        drop(listener);
        assert_eq!(connect(&[address]).await.unwrap_err().1, Exit::Unreachable);
    }
}
